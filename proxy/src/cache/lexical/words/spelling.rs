//! Ways to write the same word, and words that look alike but are not.

/// Zero to twenty: a word's place is its value.
pub(super) const NUMBERS: &str = "zero one two three four five six seven eight nine ten eleven \
    twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen twenty";

pub(super) const ORDINALS: &str = "first second third fourth fifth sixth seventh eighth ninth tenth \
    eleventh twelfth thirteenth fourteenth fifteenth sixteenth seventeenth eighteenth nineteenth \
    twentieth thirtieth fortieth fiftieth hundredth thousandth last final penultimate next previous";

/// Plurals that are another word than their singular.
pub(super) const OWN_PLURALS: &str = "aid aids art arts ash ashes blue blues dart darts date dates \
    due dues final finals honor honors jean jeans link links note notes overall overalls plain \
    plains pool pools proceed proceeds race races rapid rapids sale sales scale scales sense senses \
    shade shades slack slacks stock stocks trunk trunks tropic tropics wage wages well wells wit \
    wits marble marbles trial sport sports relation relations account accounts return returns new news good goods arm arms custom customs mean means physic \
    physics economic economics content contents saving savings damage damages force forces time times compass compasses pant pants short shorts brief briefs water waters air airs \
    green greens wood woods people peoples genetic genetics ethic ethics politic politics glass \
    glasses spectacle spectacles letter letters manner manners moral morals pain \
    pains premise premises quarter quarters respect respects sand sands spirit spirits term terms \
    color colors cloth clothes bra bras ga gas mathematic mathematics statistic \
    statistics acoustic acoustics athletic athletics electronic electronics mechanic mechanics \
    dynamic dynamics graphic graphics optic optics tactic tactics classic classics window windows \
    team teams state states ground grounds odd odds part parts thank thanks asset assets \
    advice advices species specie series serie len lens chao chaos kudo kudos bias biases gate gates \
    job jobs bit bits drawer drawers earning earnings heaven heavens humanity humanities remain \
    remains right rights troop troops value values virus basis analysis crisis thesis axis oasis \
    atlas canvas iris bus plus minus status focus bonus campus census corpus genius nexus radius";

/// Pairs and groups of real words that one slip of the keys turns into one another.
pub(super) const CONFUSABLE: &str = "angel angle trial trail casual causal united untied unite untie \
    quiet quite silver sliver diary dairy martial marital sacred scared board broad beard bread \
    discreet discrete tired tried barley barely unclear nuclear prefect perfect preform perform \
    split spilt filed field burnt brunt singed signed singer signer tiers tires tries stain satin \
    salve slave salver slaver crave carve arise raise fried fired cloud could clods colds abroad \
    aboard coats coast boats boast feats feast beats beast claps clasp crust curst brian brain \
    calvary cavalry conversation conservation desert dessert complaint compliant dilate dialect \
    bolster lobster bared bread debar beard curd crud felid field felt left forts frost trust strut \
    grin gird gland glands lager large regal lager leapt petal plate pleat pedal plead mantel mantle \
    metal petal modern morden mural rural nerve never onset stone pares spare pairs paris parties \
    pirates parity party patent pattern pedal plaid plane panel pours porous prose pores rouse \
    reign resign rogue rouge route outer saline snail sauce cause scared cedars screw crews serve \
    sever verse shore horse silent listen skate stake steak slept spelt slides sidle slime smile \
    miles snake sneak solar polar spirit sprite stable tables stare tears state taste steal stale \
    least steam teams meats stick tick strip stripe sweat waste tales steal there three throw worth \
    tutor trout viola voila waist waits weird wired whist width women woman yeast calm clam cruel \
    ulcer lucre dose does crate carte create trace lair liar brake break breathe breath costs \
    costume custom loose lose chose choose planning planing dinning dining later latter super supper \
    canon cannon comma coma below bellow career carrier holly holy filling filing staring starring \
    scraping scrapping striped stripped hoping hopping pining pinning baring barring winning wining \
    carbs crabs corps crops bolts blots colts clots salts slats slits silts torts trots plies \
    piles flier filer prats parts brads bards rails rials lairs liars grabs garbs bran barn robbed robed \
    phillips philips griped gripped sloping slopping tapping taping moped mopped tiny tinny";

/// Contractions without their apostrophe.
pub(super) const CONTRACTIONS: &str = "whats=what+is whos=who+is wheres=where+is whens=when+is \
    whys=why+is hows=how+is thats=that+is theres=there+is dont=do+not doesnt=does+not \
    didnt=did+not isnt=is+not arent=are+not wasnt=was+not werent=were+not cant=can+not \
    cannot=can+not couldnt=could+not shouldnt=should+not wouldnt=would+not wont=will+not \
    hasnt=has+not havent=have+not hadnt=had+not mustnt=must+not im=i+am ive=i+have youre=you+are \
    theyre=they+are gonna=going+to wanna=want+to gotta=got+to";

/// Words whose other spelling is the same word: British and American, common misspellings, short
/// forms.
pub(super) const VARIANTS: &[&str] = &[
    "colour=color colours=colors favourite=favorite favour=favor flavour=flavor flavours=flavors \
     behaviour=behavior behaviours=behaviors neighbour=neighbor neighbours=neighbors labour=labor \
     honour=honor humour=humor rumour=rumor harbour=harbor armour=armor odour=odor tumour=tumor \
     vapour=vapor centre=center centres=centers theatre=theater fibre=fiber fibres=fibers \
     calibre=caliber sabre=saber spectre=specter lustre=luster organise=organize \
     organisation=organization organisations=organizations recognise=recognize realise=realize \
     analyse=analyze optimise=optimize optimisation=optimization summarise=summarize \
     minimise=minimize maximise=maximize normalise=normalize visualise=visualize \
     visualisation=visualization initialise=initialize serialise=serialize customise=customize \
     apologise=apologize memorise=memorize prioritise=prioritize categorise=categorize \
     synchronise=synchronize authorise=authorize authorisation=authorization utilise=utilize \
     specialise=specialize standardise=standardize civilisation=civilization \
     globalisation=globalization colonisation=colonization industrialisation=industrialization \
     privatisation=privatization defence=defense offence=offense licence=license \
     pretence=pretense travelling=traveling traveller=traveler cancelled=canceled \
     cancelling=canceling labelled=labeled modelling=modeling jewellery=jewelry aluminium=aluminum \
     sulphur=sulfur anaemia=anemia oestrogen=estrogen paediatric=pediatric haemoglobin=hemoglobin \
     diarrhoea=diarrhea foetus=fetus leukaemia=leukemia encyclopaedia=encyclopedia grey=gray \
     mould=mold plough=plow tyre=tire catalogue=catalog dialogue=dialog analogue=analog \
     programme=program programmes=programs cheque=check aeroplane=airplane maths=math \
     learnt=learned dreamt=dreamed",
    "seperate=separate definately=definitely recieve=receive recieved=received occured=occurred \
     occurence=occurrence goverment=government enviroment=environment begining=beginning \
     wich=which teh=the adress=address acheive=achieve beleive=believe calender=calendar \
     collegue=colleague comittee=committee commited=committed concious=conscious \
     dissapear=disappear embarass=embarrass existance=existence foriegn=foreign gaurd=guard \
     happend=happened immediatly=immediately independant=independent knowlege=knowledge \
     libary=library maintainance=maintenance neccessary=necessary necesary=necessary \
     noticable=noticeable persistant=persistent posession=possession prefered=preferred \
     probaly=probably publically=publicly reccomend=recommend recomend=recommend refered=referred \
     relevent=relevant religous=religious rythm=rhythm sieze=seize succesful=successful \
     suprise=surprise tendancy=tendency truely=truly unfortunatly=unfortunately untill=until \
     wierd=weird writting=writing grammer=grammar langauge=language lenght=length heigth=height \
     strenght=strength diffrence=difference diffrent=different differnt=different \
     funtion=function fucntion=function becuase=because beacuse=because \
     explian=explain expain=explain explane=explain discribe=describe wether=whether \
     vaccum=vacuum temperture=temperature temprature=temperature goverments=governments \
     programing=programming sumarize=summarize trasnlate=translate transalte=translate \
     pyhton=python phyton=python javscript=javascript",
    "info=information photo=photograph photos=photographs fridge=refrigerator \
     pls=please plz=please thx=thanks thankyou=thanks vs=versus \
     1st=first 2nd=second 3rd=third 4th=fourth 5th=fifth 6th=sixth 7th=seventh 8th=eighth \
     9th=ninth 10th=tenth 11th=eleventh 12th=twelfth 13th=thirteenth 14th=fourteenth \
     15th=fifteenth 16th=sixteenth 17th=seventeenth 18th=eighteenth 19th=nineteenth \
     20th=twentieth js=javascript cpp=c++ csharp=c# postgres=postgresql k8s=kubernetes",
];

/// Everyday words of five letters: the only ones of that length in which a slip is forgiven.
pub(super) const FIVE_LETTERS: &str = "about above abuse actor adapt admit adopt adult after again \
    agent agree alarm album alert alike alive allow alone along among anger apart apple apply argue \
    arrow avoid awake award aware award basic beach begin being birth black blade blame blank blend \
    blind block blood board boost bound brain brand bread brick brief bring brown brush build \
    buyer cable carry catch chain chair chart chase cheap check cheese chess chest chief child \
    claim class clean clear click climb clock close cloth coach color count court cover craft crash \
    cream crime cross crowd cycle daily dance death debut delay depth doing doubt draft drama dream \
    dress drink drive eager early earth eight email empty enemy enjoy enter entry equal error essay \
    event every exact exist extra faith false fault favor fever fewer fiber fifth fight final first \
    fixed flame flash fleet flesh float flood floor flour fluid focus force frame fresh front fruit \
    fully funny giant given glass globe grace grade grain grand grant grape graph grass great green \
    group grown guard guess guest guide happy heart heavy hello holes honey honor hotel hours house \
    human humor ideal image index inner input issue items joint judge juice known label large laser \
    laugh layer learn lease legal lemon level lever light limit linux liver local logic loose lower \
    lucky lunch lyric magic major maker maple march match maybe mayor means media mercy merge merit \
    metal meter might minor model money month moral motor mount mouse mouth movie music names night \
    noise north novel nurse ocean offer often olive onion opera orbit order organ other owner paint \
    panel paper party pasta patch peace phase phone photo piano piece pilot pitch pixel place plain \
    plane plant plate plays poems point pound power press price pride prime print prior prize proof \
    proud prove query queue quick quote radio raise range rapid ratio reach react ready reply rhyme \
    rider right rival river robot rough round route royal rules rural scale scene scope score screw \
    sense setup seven shape share sharp sheet shell shift shirt shoot shore short sight skill sleep \
    smart smile smoke solid solve songs sorry sound south space speak speed spend spicy spoon sport \
    stack staff stage stand start state steam steel steps stick still stock stone store storm story \
    strip study style sugar table taste taxes teach teeth thank theme thick thing think third tiger \
    tight title today token tools topic total touch tough tower track trade train treat trend tribe \
    trick truck truth twice types uncle under union unity upper upset urban usage usual valid value \
    video virus visit vital voice waste watch water wheel which white whole woman words world worry \
    worst worth write wrong years young youth zebra";
