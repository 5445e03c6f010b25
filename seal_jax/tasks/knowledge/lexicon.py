"""Words of one meaning that do not look alike: places and their peoples, irregular plurals.

Written from general knowledge of English, a group a semicolon; no list of somebody else's is in it.
"""

import re

_FORMS = """
france french frenchman frenchmen; spain spanish spaniard; netherlands dutch holland; greece greek
wales welsh; poland polish poles; denmark danish dane; switzerland swiss; ireland irish
scotland scottish scots; england english englishmen; norway norwegian; finland finnish finns
thailand thai; philippines filipino; peru peruvian; turkey turkish turks; sweden swedish swedes
germany german; iceland icelandic; china chinese; japan japanese; portugal portuguese
israel israeli; palestine palestinian; iraq iraqi; iran iranian persia; afghanistan afghan
pakistan pakistani; ukraine ukrainian; belgium belgian; italy italian; rome roman; athens athenian
venice venetian; naples neapolitan; troy trojan; carthage carthaginian; canada canadian
mexico mexican; brazil brazilian; argentina argentine argentinian; egypt egyptian; europe european
arabia arab arabic; mongolia mongol; vietnam vietnamese; hungary hungarian; bohemia czech
christianity christian; judaism jew jewish; islam islamic muslim; catholicism catholic
buddhism buddhist; man men; woman women; person people; child children; wife wives; life lives
foot feet; tooth teeth
"""

# Word → the numbers of the groups that it is in.
FORMS: dict[str, set[int]] = {}
for _number, _group in enumerate(re.split(r"[;\n]", _FORMS)):
    for _word in _group.split():
        FORMS.setdefault(_word, set()).add(_number)
