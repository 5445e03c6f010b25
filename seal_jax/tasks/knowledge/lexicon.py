"""Words of one meaning that do not look alike: irregular forms, peoples and places, synonyms.

Written from general knowledge of English, a line a group; no list of somebody else's is in it.
"""

_FORMS = """
man men; woman women; child children; foot feet; tooth teeth; mouse mice; goose geese; wife wives
life lives; knife knives; leaf leaves; wolf wolves; person persons people; ox oxen
die dice died dying; go goes went gone going; win wins won; lose loses lost losing loss
fight fights fought; buy bought; build builds built; teach teaches taught; think thought
bring brought; catch caught; seek sought; sell sells sold; tell told; find found; hold held
lead led; leave left; send sent; spend spent; write writes wrote written; drive drove driven
rise rises rose risen; speak spoke spoken speech; break broke broken; choose chose chosen choice
freeze froze frozen; steal stole stolen; give gave given; take took taken; eat ate eaten
fall fell fallen; know knew known; grow grew grown growth; throw threw thrown
fly flew flown flight; begin began begun; sing sang sung song; swim swam swum; run ran running
come came; become became; see saw seen; sit sat; stand stood; understand understood
make made making; pay paid; say said; lie lay; meet met; keep kept; sleep slept; feel felt
hear heard; forbid forbade forbidden; strike struck; swear swore sworn; wear wore worn
draw drew drawn; high height; long length; strong strength; wide width; deep depth; broad breadth
warm warmth; young youth; true truth; proud pride; poor poverty; hot heat; dead death; born birth
wise wisdom; analysis analyses analyze; crisis crises; bacterium bacteria; phenomenon phenomena
datum data; fungus fungi; nucleus nuclei; radius radii; alga algae; medium media; axis axes
index indices; defend defence defense; offence offense; centre center; theatre theater
colour color; labour labor; harbour harbor; armour armor; honour honor; programme program
catalogue catalog; grey gray; aluminium aluminum; sulphur sulfur; plough plow; tyre tire
cheque check; organisation organization
"""
_PEOPLES = """
france french frenchman frenchmen; spain spanish spaniard spaniards; netherlands dutch holland
greece greek greeks; wales welsh; poland polish poles; denmark danish danes dane
switzerland swiss; ireland irish; scotland scottish scots; england english englishmen
norway norwegian norwegians; finland finnish finns; thailand thai; philippines filipino filipinos
peru peruvian; turkey turkish turks; sweden swedish swedes; germany german germans
iceland icelandic; china chinese; japan japanese; portugal portuguese; israel israeli israelis
palestine palestinian palestinians; iraq iraqi; iran iranian persian persia
afghanistan afghan afghans; pakistan pakistani; ukraine ukrainian; russia russian russians
austria austrian austrians; belgium belgian; italy italian italians; rome roman romans
athens athenian; venice venetian; naples neapolitan; troy trojan; carthage carthaginian
canada canadian canadians; mexico mexican; brazil brazilian; argentina argentine argentinian
cuba cuban; egypt egyptian; libya libyan; kenya kenyan; europe european; africa african
asia asian; arabia arab arabs arabic; mongolia mongol mongols mongolian; korea korean
vietnam vietnamese; hungary hungarian; bohemia czech; christianity christian christians
judaism jew jews jewish; islam islamic muslim muslims; catholicism catholic catholics
buddhism buddhist
"""
_SYNONYMS = """
abolish eliminate repeal; abundant plentiful; accept adopt; accident crash collision
accuse charge blame; advantage benefit; advice counsel guidance; afraid scared frightened
aged elderly old; agree consent; agreement treaty accord pact; aim target; allow permit let
almost nearly; amount quantity; anger rage fury; angry furious mad; announce declare proclaim
annually yearly; answer reply response; appear seem; appoint nominate designate
area region zone district; argue claim contend assert; arrest detain; ask request
assassinate murder; assembly parliament legislature; attack assault; author writer
baby infant newborn; ban outlaw; beginning start origin; belief conviction
bishop clergy priest minister; body corpse; book novel; border boundary frontier; brave courageous
bridge span; brief short; bright luminous; build construct erect; burial funeral
business commerce trade commercial trading; buy purchase acquire; calm peaceful
cancel terminate abandon; capture seize conquer; car automobile; careful cautious
cargo freight goods; castle fortress fort citadel; cattle cows; cave cavern; center middle core
certain sure; change alter modify transform; cheap inexpensive; childhood infancy; choose select
church cathedral; citizen resident inhabitant; clear transparent; coal charcoal
coast shore seashore coastline; cold cool chilly; collect gather; colony settlement
combine unite merge; command order; common widespread; company firm corporation; complain protest
computer pc; conceal hide; conference meeting summit; confuse mix; congress legislature
connect link join; conquest invasion; constant steady continuous; contain include hold comprise
control dominate; cook chef; corn maize; cost price expense; council board; court tribunal
create make produce form generate; crime offence felony; criticize condemn denounce; crop harvest
crowd mob; cruel brutal; custom tradition; damage harm injury injure hurt; dangerous hazardous
dark black; deadly lethal fatal; debt owe; decide determine resolve
decrease reduce lower decline diminish drop lessen; defeat beat; delay postpone; demand require
demonstrate show; describe depict portray; desire wish want; destroy demolish raze; develop evolve
device machine instrument apparatus; diet food nutrition; differ vary; difficult hard
direct guide; dirty polluted; disagree oppose; disappear vanish; disaster catastrophe
discover find detect identify; dispute quarrel disagreement; distribute allocate
divide split separate fragment; doctor physician; double twofold; doubt uncertainty; dry arid
duty obligation responsibility; earn gain; earth world globe planet; east eastern; easy simple
economy economic finance financial; educate teach train; effort attempt try; elect vote choose
electricity power electrical; elevator lift; emperor ruler monarch; empty vacant
encourage promote foster; end finish conclude cease stop; enemy foe; engine motor
enormous huge immense; enough sufficient; ensure guarantee; entrance gate door
environment surroundings; equal same identical; equipment gear; error mistake
establish found founded create set; estate property land; evidence proof; evil wicked
exact precise; examine inspect investigate; example instance; excellent outstanding; exchange swap
exile banish expel deport; expert specialist; explain clarify; explode burst
extra additional more further; factory plant mill; fail failure; fair just; fake false counterfeit
famous renowned well-known; farmer peasant; fast quick rapid swift; fat lipid; father paternal
fault defect flaw; fear dread; female woman; festival celebration; field domain discipline
fierce violent; fight battle combat; film movie; fire flame burn; first initial original
fix repair; flag banner; flat level; flee escape; flow stream; follow succeed; food meal
forbid prohibit ban; foreign overseas abroad; forest woods woodland; form shape; fort stronghold
fortune wealth; free independent; freedom liberty; frequent often; friend ally
fuel gasoline petrol; garment clothing clothes dress attire; gas vapor; gentle mild
get obtain receive gain; gift present donation; glad happy; global worldwide international
goal aim objective purpose; god lord deity; gold golden; govern administer
government administration; grave tomb; group band; guess estimate; guest visitor
gun rifle firearm; hall auditorium; handle manage; harbor port; heat thermal; heaven sky
help assist aid; hidden secret concealed; hill mount; hinder impede slow obstruct hamper
hire employ recruit; hole opening; holy sacred; hospital clinic medical; hostile unfriendly
hotel inn; house home; hungry starving famine hunger starvation; ice frozen; idea concept notion
illegal unlawful; illness disease sickness; immediately instantly; immigrant migrant settler
imply suggest; important significant crucial key; imprison jail; improve enhance better
income earnings revenue; increase rise grow raise boost; independence autonomy sovereignty
individual person; inequality disparity; influence affect impact effect; inform notify
injure wound; insect bug; inside interior internal; instrument tool; intelligent smart clever
invent devise design develop; island isle; jail prison imprisoned; jewel gem; job work employment
join enter; journey trip voyage; judge justice; jump leap; kill murder slay; kind type sort
king monarch; kingdom realm; lack absence shortage; lamp light; language tongue
large big great huge vast; last final; later after; law legislation statute act; lawyer attorney
layer stratum; leader head chief; leaflet pamphlet; learn study; legal lawful; lift elevate
limit restrict restriction cap; liquid fluid; local regional; locate situate; look appearance
love affection; loyal faithful; magazine journal periodical; mail post
main primary chief principal major; maintain preserve keep; male man; marry wed marriage wedding
massacre slaughter; match game; medicine drug medication; member participant; merchant trader
method technique approach way; middle central; military army armed forces; mix blend
monastery abbey; money currency; money funds funding; moon lunar; moral ethical; mother maternal
mountain mount peak; move transfer relocate; music musical; name call term title
native indigenous aboriginal; navy naval; near close nearby; need require; neglect ignore
new novel modern recent; newspaper paper; noble aristocrat aristocracy nobility; noise sound
north northern; obey comply; object item thing; observe watch; obstacle barrier; occupy invade
occur happen; ocean sea; offer propose; office bureau; old ancient; only sole; operate run
operation surgery; opinion view; opponent rival; oppose resist; oppress persecute
option choice alternative; organization organisation group agency body institution
organize arrange; outside exterior external; owner proprietor; part portion section component
peak summit; people population; percent percentage; permanent lasting; permission authorization
petroleum oil; picture image; pipe tube; place location site spot; plague epidemic; plan scheme
plane aircraft airplane; plant vegetation; play drama; poem poetry; poison toxic; policeman police
political politics; poor impoverished; possess own; pottery ceramics; powerful strong mighty
pray worship; predict forecast; pretty beautiful; prevent stop; previous prior former earlier
prisoner captive inmate; prize award; problem issue difficulty; process procedure
protect guard shield safeguard defend; protest demonstration; publish release issue
punish penalty punishment; quick speedy; quiet silent; rain rainfall precipitation
rare scarce uncommon; real actual genuine; reason cause
rebel revolt uprising insurrection rebellion; reduce shrink; refuse reject decline deny
relative kin; release free liberate; religion faith; rely depend dependence; remain stay
remove eliminate; replace substitute; rescue save; research study; residence dwelling home
resign quit; result outcome consequence effect; retreat withdraw; reveal disclose
rich wealthy affluent; road street; robber thief; robbery theft; room chamber; route path
rubbish waste garbage; rule govern reign; rule regulation; rural countryside; safe secure
safety security; sailor seaman; salary wage pay; salt sodium; scholar academic
scientist researcher; sculpture statue; serious severe; sex gender; sheep lamb; ship boat vessel
shop store; shortage scarcity; show display exhibit; shut close; sick ill; similar alike
singer vocalist; skill ability; slave slavery; small little tiny; smell odor; soil earth dirt
soldier troops; soul spirit; south southern; speak talk; speech address; speed velocity
spouse husband wife; spread expand extend; square plaza; staff personnel; star stellar
start begin commence; stone rock; storm hurricane; story tale narrative; strange odd unusual
strike walkout; student pupil; subject topic; sun solar; supplier provider; supply provide
support back; surrender yield; tall high; tax taxation tariff; teacher instructor educator
team squad; telephone phone; television tv; temple shrine; territory land; test exam
textile cloth fabric; timber lumber wood; total sum; train railway railroad; translate translation
transport transportation; triple threefold; unemployed unemployment jobless; use utilize employ
vacation holiday; value worth; variety diversity; various several many; victory triumph win
voter electorate; war conflict; weak feeble; weapon arms armament; weather climate; west western
whole entire complete full; winner victor champion; worker laborer employee
"""


def _groups(text: str) -> dict[str, frozenset[int]]:
    """Word → the numbers of the groups that it is in."""
    found: dict[str, set[int]] = {}
    groups = [group.split() for line in text.split("\n") for group in line.split(";")]
    for number, group in enumerate(groups):
        for word in group:
            found.setdefault(word, set()).add(number)
    return {word: frozenset(numbers) for word, numbers in found.items()}


FORMS = _groups(_FORMS + _PEOPLES)
SYNONYMS = _groups(_SYNONYMS)
