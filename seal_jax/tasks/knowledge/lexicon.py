"""Words of one meaning that do not look alike: places and their peoples, irregular plurals.

Written from general knowledge of English, a group a semicolon; no list of somebody else's is in it.
"""

import re

_FORMS = """
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
buddhism buddhist; man men; woman women; person persons people
child children; wife wives; life lives; foot feet; tooth teeth
"""

# Word → the numbers of the groups that it is in.
FORMS: dict[str, set[int]] = {}
for _number, _group in enumerate(re.split(r"[;\n]", _FORMS)):
    for _word in _group.split():
        FORMS.setdefault(_word, set()).add(_number)
