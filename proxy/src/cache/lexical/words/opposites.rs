//! Opposites: general English pairs, and prefixes that turn a word into its opposite.

use std::collections::HashMap;
use std::sync::LazyLock;

/// `left/right` pairs. Inflected forms are found through their base.
const PAIRS: &[&str] = &[
    "on/off in/out up/down over/under above/below before/after with/without inside/outside \
     to/from into/onto for/against here/there now/then front/back left/right top/bottom \
     first/last first/second second/third first/final next/previous last/next earlier/later \
     early/late always/never often/rarely often/seldom always/sometimes usually/rarely \
     everyone/nobody all/none all/some all/any some/none any/none every/no both/neither \
     everything/nothing everywhere/nowhere more/less more/fewer most/least most/fewest many/few \
     much/little maximum/minimum max/min maximize/minimize upper/lower high/low tall/short \
     long/short big/small large/small great/small huge/tiny giant/tiny wide/narrow broad/narrow \
     thick/thin fat/thin fat/skinny deep/shallow heavy/light near/far close/far closest/farthest \
     nearest/furthest old/new old/young ancient/modern modern/traditional fast/slow quick/slow \
     rapid/slow good/bad good/evil best/worst better/worse well/badly hot/cold warm/cool \
     heat/cool warm/cold wet/dry hard/soft hard/easy difficult/easy simple/complex \
     simple/complicated easy/complicated rough/smooth sharp/blunt sharp/dull strong/weak \
     strength/weakness rich/poor expensive/cheap costly/cheap cheap/pricey luxury/budget full/empty \
     open/close open/shut opened/closed public/private public/secret start/stop start/end \
     start/finish begin/end begin/finish beginning/ending beginning/end go/stop come/go enter/exit \
     enter/leave arrive/leave arrive/depart arrival/departure join/leave stay/leave push/pull \
     give/take give/receive send/receive sender/receiver buy/sell purchase/sell buyer/seller \
     lend/borrow lender/borrower loan/deposit rent/own rent/buy lease/buy import/export \
     increase/decrease increase/reduce raise/lower raise/reduce rise/fall grow/shrink gain/lose \
     gain/loss win/lose winner/loser victory/defeat profit/loss add/remove add/subtract \
     add/delete plus/minus sum/difference multiply/divide multiplication/division \
     addition/subtraction create/delete create/destroy build/destroy make/break insert/delete \
     insert/remove attach/detach attach/remove mount/unmount enable/disable activate/deactivate \
     install/uninstall install/remove allow/block allow/deny allow/forbid allow/prevent permit/deny \
     permit/prohibit accept/reject accept/refuse accept/decline approve/reject grant/revoke \
     lock/unlock hide/show hide/unhide visible/hidden mute/unmute follow/unfollow like/dislike \
     love/hate subscribe/unsubscribe pin/unpin archive/unarchive block/unblock freeze/thaw \
     freeze/melt boil/freeze melt/solidify expand/contract expand/collapse inflate/deflate \
     inflation/deflation encode/decode encrypt/decrypt compress/decompress zip/unzip pack/unpack \
     serialize/deserialize load/save load/unload save/discard upload/download import/export \
     push/pop read/write input/output encoder/decoder client/server frontend/backend \
     front-end/back-end source/target source/destination origin/destination parent/child \
     ancestor/descendant master/slave primary/secondary major/minor main/secondary local/remote \
     local/global global/regional internal/external inner/outer interior/exterior inbound/outbound \
     incoming/outgoing domestic/foreign national/international indoor/outdoor indoors/outdoors \
     horizontal/vertical row/column ascending/descending ascend/descend forward/backward \
     forwards/backwards clockwise/counterclockwise north/south east/west northern/southern \
     eastern/western ceiling/floor head/tail peak/trough",
    "cause/effect cause/prevent cause/consequence cause/result cause/symptom reason/consequence \
     cause/treatment symptom/treatment symptom/cure disease/cure advantage/disadvantage pro/con \
     benefit/risk benefit/drawback benefit/cost benefit/harm upside/downside merit/flaw \
     strength/limitation past/future history/future past/present present/future before/during \
     during/after problem/solution question/answer ask/answer theory/practice fact/opinion \
     fact/myth fact/fiction fiction/nonfiction true/false truth/lie right/wrong correct/incorrect \
     correct/wrong real/fake real/imaginary genuine/fake natural/artificial natural/synthetic \
     organic/inorganic raw/cooked fresh/stale fresh/frozen ripe/unripe alive/dead life/death \
     live/die born/died birth/death birth/die healthy/sick healthy/ill healthy/unhealthy safe/dangerous \
     safe/unsafe safe/harmful safety/danger harmless/harmful harmful/beneficial useful/useless \
     helpful/harmful help/harm help/hurt help/hinder heal/hurt cure/cause success/failure \
     succeed/fail pass/fail happy/sad happy/unhappy glad/sad joy/sorrow laugh/cry smile/frown \
     optimist/pessimist optimistic/pessimistic positive/negative active/passive active/inactive \
     dominant/recessive acid/base acidic/basic acidic/alkaline solid/liquid liquid/gas \
     conductor/insulator proton/electron anode/cathode cation/anion oxidation/reduction \
     oxidize/reduce endothermic/exothermic reactant/product solute/solvent predator/prey \
     herbivore/carnivore male/female man/woman men/women boy/girl father/mother dad/mom dad/mum \
     son/daughter brother/sister uncle/aunt nephew/niece husband/wife king/queen prince/princess \
     mr/mrs mr/ms mr/miss sir/madam he/she him/her his/her his/hers himself/herself bride/groom \
     actor/actress god/goddess hero/villain hero/heroine hero/coward friend/enemy ally/enemy \
     teacher/student teacher/pupil doctor/patient employer/employee boss/employee manager/employee \
     landlord/tenant customer/seller producer/consumer supply/demand debtor/creditor debit/credit \
     asset/liability income/expense revenue/cost bull/bear bullish/bearish long-term/short-term \
     permanent/temporary constant/variable constant/changing static/dynamic fixed/variable \
     fixed/mobile mutable/immutable finite/infinite discrete/continuous odd/even prime/composite \
     rational/irrational even/uneven equal/unequal same/different similar/different \
     similarity/difference alike/different common/rare common/unique ordinary/special \
     normal/abnormal usual/unusual general/specific abstract/concrete literal/figurative \
     singular/plural subject/object noun/verb vowel/consonant synonym/antonym prefix/suffix \
     uppercase/lowercase formal/informal polite/rude polite/impolite kind/cruel kind/mean \
     brave/cowardly honest/dishonest loyal/disloyal patient/impatient proud/humble shy/outgoing \
     introvert/extrovert introverted/extroverted lazy/diligent lazy/hardworking smart/stupid \
     clever/stupid wise/foolish beautiful/ugly pretty/ugly clean/dirty tidy/messy neat/messy \
     bright/dark light/dark day/night day/week week/month month/year morning/evening am/pm \
     dawn/dusk sunrise/sunset summer/winter spring/autumn spring/fall weekday/weekend noisy/quiet \
     loud/quiet silence/noise sweet/sour sweet/bitter sweet/salty spicy/mild hungry/full \
     thirsty/hydrated awake/asleep wake/sleep sit/stand walk/run stop/continue quit/continue \
     keep/discard keep/delete hold/release catch/throw find/lose found/lost remember/forget \
     teach/learn speak/listen praise/criticize praise/blame reward/punish reward/punishment \
     punish/forgive guilty/innocent attack/defend offense/defense offensive/defensive war/peace \
     peaceful/violent democracy/dictatorship democracy/autocracy capitalism/socialism \
     capitalism/communism liberal/conservative left-wing/right-wing republican/democrat \
     majority/minority legal/illegal lawful/unlawful free/paid free/captive freedom/slavery \
     voluntary/mandatory optional/required optional/mandatory optional/compulsory include/exclude \
     inclusive/exclusive together/apart together/separately unite/divide merge/split join/split \
     connect/disconnect tighten/loosen tight/loose bend/straighten straight/curved straight/crooked \
     symmetric/asymmetric synchronous/asynchronous sync/async serial/parallel series/parallel \
     sequential/parallel sequential/random online/offline wired/wireless analog/digital \
     hardware/software compile/interpret compiled/interpreted stateful/stateless virtual/physical \
     verbose/quiet debug/release development/production staging/production hit/miss \
     success/error odd/normal lossy/lossless signed/unsigned dense/sparse overfitting/underfitting \
     supervised/unsupervised bias/variance precision/recall mean/median average/median \
     mean/mode median/mode breadth/depth breadth-first/depth-first stack/queue min/average \
     max/average can/should can/must may/must should/must could/should will/would sun/moon \
     systolic/diastolic hypertension/hypotension artery/vein arterial/venous acute/chronic \
     benign/malignant systemic/local inhale/exhale mitosis/meiosis diurnal/nocturnal \
     immigrate/emigrate immigration/emigration immigrant/emigrant monogamy/polygamy \
     definition/criticism vice/virtue appear/disappear agree/disagree",
];

/// Prefixes that oppose a word to itself without them.
const NEGATING: &[&str] = &[
    "un", "dis", "de", "non", "in", "im", "il", "ir", "mis", "anti", "counter", "a", "ab", "mal",
    "ex", "pre", "post", "re", "co", "semi", "sub", "super", "self", "over", "under",
];

/// Prefixes that are opposites of each other.
const FACING: &[(&str, &str)] = &[
    ("pre", "post"),
    ("over", "under"),
    ("hyper", "hypo"),
    ("inter", "intra"),
    ("micro", "macro"),
    ("mono", "poly"),
    ("mono", "bi"),
    ("uni", "multi"),
    ("uni", "bi"),
    ("up", "down"),
    ("in", "out"),
    ("in", "ex"),
    ("im", "ex"),
    ("en", "de"),
    ("endo", "exo"),
    ("sub", "super"),
    ("pro", "anti"),
    ("homo", "hetero"),
    ("centri", "centro"),
    ("ab", "ad"),
    ("eu", "dys"),
    ("max", "min"),
    ("as", "des"),
    ("ante", "post"),
    ("kilo", "mega"),
    ("milli", "micro"),
    ("en", "dis"),
    ("on", "off"),
    ("fore", "back"),
    ("front", "back"),
    ("back", "fore"),
];

static OPPOSITES: LazyLock<HashMap<&'static str, Vec<&'static str>>> = LazyLock::new(|| {
    let mut opposites: HashMap<&'static str, Vec<&'static str>> = HashMap::new();
    for (left, right) in pairs() {
        opposites.entry(left).or_default().push(right);
        opposites.entry(right).or_default().push(left);
    }
    opposites
});

/// All pairs, each once.
pub(in super::super) fn pairs() -> impl Iterator<Item = (&'static str, &'static str)> {
    PAIRS.iter().flat_map(|list| list.split_whitespace()).filter_map(|pair| pair.split_once('/'))
}

/// The listed opposites of a base form.
pub(in super::super) fn of(word: &str) -> &'static [&'static str] {
    OPPOSITES.get(word).map_or(&[], Vec::as_slice)
}

/// Whether two words differ by nothing but a prefix that turns the meaning round.
pub(in super::super) fn by_prefix(left: &str, right: &str) -> bool {
    /// A shorter rest is a chance likeness: "it" and "unit".
    const REST: usize = 4;
    let ending = left.bytes().rev().zip(right.bytes().rev()).take_while(|(x, y)| x == y).count();
    if ending < REST {
        return false;
    }
    let negated = |long: &str, short: &str| {
        short.len() >= REST
            && long.strip_suffix(short).is_some_and(|prefix| NEGATING.contains(&prefix))
    };
    let facing = |one: &str, other: &str| {
        FACING.iter().any(|(a, b)| match (one.strip_prefix(a), other.strip_prefix(b)) {
            (Some(x), Some(y)) => x == y && x.len() >= REST,
            _ => false,
        })
    };
    negated(left, right) || negated(right, left) || facing(left, right) || facing(right, left)
}
