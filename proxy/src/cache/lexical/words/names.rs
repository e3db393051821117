//! Proper names that are known whatever their case, words that are a name only with a capital, and
//! units of measure.

pub(super) const COUNTRIES: &str = "afghanistan albania algeria andorra angola antigua argentina \
    armenia australia austria azerbaijan bahamas bahrain bangladesh barbados belarus belgium belize \
    benin bhutan bolivia bosnia botswana brazil brunei bulgaria burkina burundi cambodia cameroon \
    canada chad chile colombia comoros congo croatia cuba cyprus czechia denmark djibouti dominica \
    ecuador egypt england eritrea estonia eswatini ethiopia fiji finland france gabon gambia \
    georgia germany ghana greece grenada guatemala guinea guyana haiti honduras hungary iceland \
    india indonesia iran iraq ireland israel italy jamaica japan kazakhstan kenya kiribati korea \
    kosovo kuwait kyrgyzstan laos latvia lebanon lesotho liberia libya liechtenstein lithuania \
    luxembourg madagascar malawi malaysia maldives mali malta mauritania mauritius mexico \
    micronesia moldova monaco mongolia montenegro morocco mozambique myanmar namibia nauru nepal \
    netherlands holland nicaragua niger nigeria norway oman pakistan palau palestine panama \
    paraguay peru philippines poland portugal qatar romania russia rwanda samoa scotland senegal \
    serbia seychelles singapore slovakia slovenia somalia spain sudan suriname sweden switzerland \
    syria taiwan tajikistan tanzania thailand togo tonga trinidad tunisia turkmenistan tuvalu \
    uganda ukraine uruguay uzbekistan vanuatu vatican venezuela vietnam wales yemen zambia \
    zimbabwe britain usa uk america europe asia africa oceania antarctica arctic eu uae ussr";

pub(super) const PEOPLES: &str = "afghan african albanian algerian american arab arabic argentine \
    armenian asian australian austrian azerbaijani basque belarusian belgian bengali bolivian \
    bosnian brazilian breton british bulgarian burmese cambodian canadian cantonese catalan chilean \
    chinese colombian corsican croatian cuban cypriot czech danish dutch egyptian english \
    esperanto estonian ethiopian european filipino finnish flemish french frisian galician \
    georgian german greek gujarati haitian hawaiian hebrew hindi hungarian icelandic igbo indian \
    indonesian iranian iraqi irish israeli italian jamaican japanese javanese kannada kazakh \
    kenyan khmer korean kurdish kyrgyz lao latin latvian lebanese libyan lithuanian macedonian \
    malagasy malay malayalam maltese mandarin maori marathi mexican moldovan mongolian moroccan \
    nepali nigerian norwegian pakistani palestinian pashto persian farsi peruvian portuguese \
    punjabi quechua romanian russian samoan sanskrit saudi scottish serbian sindhi sinhala \
    slovak slovenian somali spanish sundanese swahili swede swedish swiss syrian tagalog taiwanese \
    tajik tamil tatar telugu thai tibetan tongan tunisian turk turkish turkmen ukrainian urdu uzbek \
    uyghur vietnamese welsh xhosa yiddish yoruba zulu christian muslim jewish hindu buddhist \
    catholic protestant orthodox sikh islam christianity judaism hinduism buddhism";

pub(super) const CITIES: &str = "amsterdam ankara athens atlanta auckland baghdad bangkok barcelona \
    beijing beirut belgrade berlin bern birmingham bogota boston brasilia bratislava brisbane \
    brussels bucharest budapest cairo calcutta canberra caracas chicago cologne copenhagen dallas \
    damascus delhi denver detroit dhaka doha dubai dublin edinburgh florence frankfurt geneva \
    glasgow hamburg hanoi havana helsinki houston istanbul jakarta jerusalem johannesburg kabul \
    karachi kiev kyiv kyoto lagos lahore lima lisbon liverpool ljubljana london lyon madrid \
    manchester manila marseille mecca melbourne miami milan minsk montreal moscow mumbai munich \
    nairobi naples oslo osaka ottawa paris philadelphia prague quito reykjavik riga rome rotterdam \
    santiago sarajevo seattle seoul seville shanghai singapore sofia stockholm stuttgart sydney \
    taipei tallinn tbilisi tehran tokyo toronto tripoli tunis turin valencia vancouver venice \
    vienna vilnius warsaw washington wellington zagreb zurich california texas florida alaska \
    hawaii arizona nevada oregon ohio virginia michigan colorado georgia illinois";

pub(super) const TECHNOLOGY: &str = "python java javascript typescript ruby rust golang c++ c# f# \
    php perl scala kotlin haskell erlang elixir clojure fortran cobol matlab julia lua dart groovy \
    lisp scheme prolog ocaml pascal delphi ada vb powershell bash zsh sql mysql postgresql postgres \
    sqlite mongodb redis oracle mariadb cassandra elasticsearch json xml yaml csv tsv toml html \
    css markdown latex pdf docx xlsx ini protobuf parquet avro svg png jpeg jpg gif webp mp3 mp4 \
    wav flac linux windows macos ubuntu debian fedora centos android ios ipados unix freebsd \
    docker kubernetes podman terraform ansible jenkins git github gitlab bitbucket svn django \
    flask fastapi rails laravel spring react angular vue svelte jquery node.js express next.js \
    numpy pandas pytorch tensorflow keras scikit spark hadoop kafka rabbitmq nginx apache aws azure \
    gcp heroku tcp udp http https ftp sftp ssh smtp imap pop3 dns dhcp ipv4 ipv6 rest graphql grpc \
    soap vim emacs vscode intellij excel powerpoint outlook gmail firefox chrome safari edge opera \
    iphone ipad samsung pixel xbox playstation nintendo gpt chatgpt llama claude gemini mistral";

pub(super) const COMPANIES: &str = "google microsoft apple amazon facebook meta tesla nvidia intel \
    amd ibm dell lenovo hp sony toyota honda nissan ford bmw audi volkswagen mercedes porsche \
    ferrari volvo hyundai kia netflix spotify twitter youtube instagram tiktok whatsapp telegram \
    discord slack zoom skype linkedin reddit pinterest snapchat uber lyft airbnb paypal stripe \
    walmart ikea nike adidas starbucks mcdonalds pepsi nestle siemens bosch airbus boeing spacex \
    nasa adobe salesforce openai anthropic huawei xiaomi alibaba tencent baidu ebay visa mastercard";

pub(super) const CALENDAR: &str = "monday tuesday wednesday thursday friday saturday sunday january \
    february april june july september october november december christmas easter halloween \
    thanksgiving ramadan hanukkah diwali ad bc bce";

pub(super) const CHEMISTRY: &str = "hydrogen helium lithium beryllium boron carbon nitrogen oxygen \
    fluorine neon sodium magnesium aluminum silicon phosphorus sulfur chlorine argon potassium \
    calcium scandium titanium vanadium chromium manganese iron cobalt nickel copper zinc gallium \
    germanium arsenic selenium bromine krypton rubidium strontium yttrium zirconium niobium \
    molybdenum ruthenium rhodium palladium silver cadmium indium tin antimony tellurium iodine \
    xenon cesium barium lanthanum cerium tungsten osmium iridium platinum gold thallium bismuth \
    polonium radon francium radium thorium uranium neptunium plutonium methane ethane propane \
    butane methanol ethanol propanol ammonia benzene toluene acetone aspirin ibuprofen paracetamol \
    acetaminophen naproxen penicillin amoxicillin insulin metformin morphine codeine caffeine";

/// Names and acronyms that are also everyday words, so that only the case tells which. Names of
/// products and languages are not here: people write them small.
pub(super) const CASED: &str = "us it who may march august turkey china polish chile jobs bush gates \
    reading nice cork bath mobile aids ram rom mercury rose bill mark grace hope faith frank rob sue \
    pat drew grant lent lima natal job wells chase earth";

pub(super) const UNITS: &str = "km m cm mm nm mile yard foot inch kg g mg mcg ton lb oz l ml cl dl \
    gallon pint quart cup tablespoon teaspoon second minute hour day week month year ms ns us \
    hz khz mhz ghz kb mb gb tb pb bit byte kbit mbit gbit w kw mw gw kwh wh v mv kv a ma ohm j kj \
    mj cal kcal k c f pa kpa mpa bar psi atm n nn rpm mph kph kmh knot percent degree dollar euro \
    pound yen cent acre hectare px em pt fps dpi bpm mol mmol iu ppm ppb db celsius fahrenheit \
    kelvin radian rad decade century";

/// Ways to write a unit.
pub(super) const UNIT_NAMES: &[&str] =
    &["kilometre=km kilometer=km kilometres=km kilometers=km kms=km centimetre=cm centimeter=cm \
     centimetres=cm centimeters=cm millimetre=mm millimeter=mm millimetres=mm millimeters=mm \
     metre=meter metres=meter meters=meter kilogram=kg kilograms=kg kilogramme=kg kilos=kg kgs=kg \
     milligram=mg milligrams=mg microgram=mcg micrograms=mcg gramme=gram grammes=gram grams=gram \
     tonne=tonne tonnes=tonne lbs=lb ounce=oz ounces=oz litre=liter litres=liter liters=liter \
     millilitre=ml milliliter=ml millilitres=ml milliliters=ml feet=foot ft=foot inches=inch \
     miles=mile yards=yard gallons=gallon pints=pint quarts=quart cups=cup tbsp=tablespoon \
     tablespoons=tablespoon tsp=teaspoon teaspoons=teaspoon sec=second secs=second seconds=second \
     mins=minute minutes=minute hr=hour hrs=hour hours=hour days=day weeks=week months=month \
     years=year yr=year yrs=year millisecond=ms milliseconds=ms nanosecond=ns nanoseconds=ns \
     kilobyte=kb kilobytes=kb megabyte=mb megabytes=mb gigabyte=gb gigabytes=gb terabyte=tb \
     terabytes=tb bytes=byte bits=bit watts=watt volts=volt kilowatt=kw kilowatts=kw megawatt=mw \
     megawatts=mw degrees=degree dollars=dollar euros=euro cents=cent acres=acre hectares=hectare \
     percentage=percentage pct=percent pixels=px pixel=px kilojoule=kj kilojoules=kj \
     calories=calorie centuries=century decades=decade"];
