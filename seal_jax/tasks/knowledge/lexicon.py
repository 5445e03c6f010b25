"""Words of one meaning that do not look alike: irregular forms, peoples and places, synonyms.

Written from general knowledge of English, a line a group; no list of somebody else's is in it.
"""

_FORMS = """
man men; woman women; child children; foot feet; tooth teeth; mouse mice; goose geese; wife wives
life lives; knife knives; leaf leaves; wolf wolves; person persons people; ox oxen; die dice died dying
go goes went gone going; win wins won; lose loses lost losing loss; fight fights fought; buy bought
build builds built; teach teaches taught; think thought; bring brought; catch caught; seek sought
sell sells sold; tell told; find found; hold held; lead led; leave left; send sent; spend spent
write writes wrote written; drive drove driven; rise rises rose risen; speak spoke spoken speech
break broke broken; choose chose chosen choice; freeze froze frozen; steal stole stolen; give gave given
take took taken; eat ate eaten; fall fell fallen; know knew known; grow grew grown growth
throw threw thrown; fly flew flown flight; begin began begun; sing sang sung song; swim swam swum
run ran running; come came; become became; see saw seen; sit sat; stand stood; understand understood
make made making; pay paid; say said; lie lay; meet met; keep kept; sleep slept; feel felt; hear heard
forbid forbade forbidden; strike struck; swear swore sworn; wear wore worn; draw drew drawn
high height; long length; strong strength; wide width; deep depth; broad breadth; warm warmth
young youth; true truth; proud pride; poor poverty; hot heat; dead death; born birth; wise wisdom
analysis analyses analyze; crisis crises; bacterium bacteria; phenomenon phenomena; datum data
fungus fungi; nucleus nuclei; radius radii; alga algae; species; medium media; axis axes; index indices
defend defence defense; offence offense; centre center; theatre theater; colour color; labour labor
harbour harbor; armour armor; honour honor; programme program; catalogue catalog; grey gray
aluminium aluminum; sulphur sulfur; plough plow; tyre tire; cheque check; organisation organization
"""
_PEOPLES = """
france french frenchman frenchmen; spain spanish spaniard spaniards; netherlands dutch holland
greece greek greeks; wales welsh; poland polish poles; denmark danish danes dane; switzerland swiss
ireland irish; scotland scottish scots; england english englishmen; norway norwegian norwegians
finland finnish finns; thailand thai; philippines filipino filipinos; peru peruvian; turkey turkish turks
sweden swedish swedes; germany german germans; iceland icelandic; china chinese; japan japanese
portugal portuguese; israel israeli israelis jewish; palestine palestinian palestinians; iraq iraqi
iran iranian persian persia; afghanistan afghan afghans; pakistan pakistani; ukraine ukrainian
russia russian russians; austria austrian austrians; belgium belgian; italy italian italians
rome roman romans; athens athenian; venice venetian; naples neapolitan; troy trojan; carthage carthaginian
canada canadian canadians; mexico mexican; brazil brazilian; argentina argentine argentinian
cuba cuban; egypt egyptian; libya libyan; kenya kenyan; europe european; africa african; asia asian
arabia arab arabs arabic; mongolia mongol mongols mongolian; korea korean; vietnam vietnamese; wales welsh
hungary hungarian; bohemia czech; christianity christian christians; judaism jew jews jewish
islam islamic muslim muslims; catholicism catholic catholics; buddhism buddhist
"""
_SYNONYMS = """
increase rise grow raise boost; decrease reduce lower decline diminish drop lessen; start begin commence
end finish conclude cease stop; large big great huge vast; small little tiny; fast quick rapid swift
difficult hard; easy simple; rich wealthy affluent; poor impoverished; build construct erect
buy purchase acquire; help assist aid; support back; attack assault; fight battle combat; war conflict
kill murder slay; destroy demolish raze; show display exhibit; allow permit let; forbid prohibit ban
prevent stop; use utilize employ; need require; get obtain receive gain; choose select; join enter
teacher instructor educator; doctor physician; lawyer attorney; king monarch; leader head chief
soldier troops; ship boat vessel; car automobile; road street; house home; forest woods woodland
stone rock; ocean sea; hill mount; illness disease sickness; medicine drug medication
money funds funding; cost price expense; salary wage pay; job work employment; company firm corporation
law legislation statute act; rule regulation; agreement treaty accord pact; freedom liberty
film movie; book novel; newspaper paper; picture image; worker laborer employee; farmer peasant
city town; country nation state; area region zone district; border boundary frontier; center middle core
group band; member participant; enemy foe; friend ally; error mistake; answer reply response
method technique approach way; goal aim objective purpose; reason cause; result outcome consequence effect
part portion section component; kind type sort; beginning start origin; fear dread; anger rage fury
religion faith; belief conviction; god lord deity; heaven sky; holy sacred; church cathedral
student pupil; school academy; university college; learn study; research study; journey trip voyage
quick speedy; rare scarce uncommon; common widespread; main primary chief principal major; important significant crucial key
first initial original; last final; new novel modern recent; old ancient; whole entire complete full; only sole
twice 2; half 50; dozen 12; couple 2; pair 2; single 1; both 2; double twofold; triple threefold
annually yearly; monthly; daily; decade; weapon arms armament; gun rifle firearm; gas vapor; fire flame burn
protect guard shield safeguard defend; create make produce form generate; discover find detect identify
move transfer relocate; remove eliminate; refuse reject decline deny; accept adopt; change alter modify transform
spread expand extend; divide split separate fragment; connect link join; combine unite merge; follow succeed
flee escape; capture seize conquer; surrender yield; defeat beat; occupy invade; control dominate; rule govern reign
publish release issue; announce declare proclaim; name call term title; famous renowned well-known; hidden secret concealed
clear transparent; dark black; bright luminous; quiet silent; strange odd unusual; violent; peaceful; dangerous hazardous
hospital clinic medical; shop store; train railway railroad; plane aircraft airplane; grain wheat cereal; petroleum oil
jail prison imprisoned; harbor port; storm hurricane; rubbish waste garbage; cattle cows; corn maize; elevator lift
"""


def _groups(text: str) -> dict[str, frozenset[int]]:
    found: dict[str, set[int]] = {}
    groups = [group.split() for line in text.split("\n") for group in line.split(";")]
    for number, group in enumerate(groups):
        for word in group:
            found.setdefault(word, set()).add(number)
    return {word: frozenset(numbers) for word, numbers in found.items()}


FORMS = _groups(_FORMS + _PEOPLES)
SYNONYMS = _groups(_SYNONYMS)
