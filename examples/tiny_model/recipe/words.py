"""Names, nouns and numbers of the synthetic chats: 'train' and 'held' never share a name."""
import random, zlib

ON = "b br c ch d dr f g gr h j k kl l m n p pr qu r s sh st t th tr v w x y z".split()
VO = "a e i o u y ai ea oa ie".split()
CO = "n r l s m t k p d g nd ng rt lm x ck q".split() + [""] * 10
CITY = "Paris London Berlin Madrid Rome Vienna Prague Oslo Helsinki Lisbon Athens Dublin Warsaw Budapest Tokyo Kyoto Osaka Seoul Beijing Shanghai Delhi Mumbai Cairo Lagos Nairobi Lima Bogota Quito Santiago Toronto Montreal Boston Chicago Denver Seattle Miami Sydney Melbourne Auckland Zurich Geneva Milan Naples Turin Venice Hamburg Munich Cologne Lyon Nice Bordeaux Porto Seville Valencia Bern Basel Graz Krakow Gdansk Riga Vilnius Tallinn Sofia Bucharest Belgrade Zagreb Istanbul Ankara Tehran Baghdad Doha Dubai Karachi Lahore Dhaka Bangkok Hanoi Manila Jakarta Singapore Perth Hobart Havana Panama Caracas".split()
FIRST = "Anna Ben Clara David Emma Felix Grace Henry Ida Jonas Karen Leo Maria Nina Oscar Paula Quinn Rosa Simon Tara Ulla Victor Wendy Xenia Yara Zoe Adam Bella Carl Diana Eric Fiona George Helen Ivan Julia Kevin Laura Mark Nora Otto Peter Rita Sara Tom Uma Vera Will Alice Bob Carol Dan Eve Frank".split()
held = lambda s: zlib.crc32(s.lower().encode()) % 8 == 0


def syl(r, n):
    return "".join(r.choice(ON) + r.choice(VO) for _ in range(n)) + r.choice(CO)


PIECES = []  # set by packing.Tok: every short letter piece of the vocabulary occurs in invented names
NOUNS = """address age alarm album area balance ball bank battery bill bird birthday blanket boat book bottle box bridge budget bus button cabin camera candle
car card carpet cat ceiling chair channel chapter cheese clock cloud coat code coffee color computer contract cookie corner cost cup curtain customer dance date deadline
debt delay depth desk diary dinner distance doctor dog door drawer dress driver email engine event exam expert farm fee fence field file film filter fire fish
flag flight floor flower fork forest form fountain fridge game garage garden gate gift glass goal grade guest guitar hall hammer harbor hat heater height helmet
holiday horse hotel house image income index invoice island jacket jam job journey juice key kitchen ladder lake lamp language lawyer leader lecture length lesson letter
level library licence light limit lion loan lock lunch machine mail manager map market mass meal medal meeting member memory menu message meter mirror model
money motor mountain movie museum music nail needle neighbor network nurse office oil oven owner page paint palace paper parcel park partner password path payment pen
permit photo piano picture pilot pipe plan plant plate player pocket poem point police pool port post potato pressure printer prize profile profit pump queen question queue radio
rain rank rate recipe record region rent report river road robot roof room rope route rule salary salt sample school score screen seat shelf ship shirt shoe shop
signal size song soup speaker speed spoon stamp station stock stone storm story street student sugar suit summary sun switch table tank target task tax taxi teacher team
ticket tide tile title tool tower town toy track train tree trip truck valve value van vase video view village visit voice volume vote wage wall watch water wave
weight wheel width wind window wine winner wire wood year yard zebra zone""".split()
VERBS = "open close start stop lock clean check read move sell paint test print reset wash fix hide call lift join quit".split()


class G:
    def __init__(self, seed, split="train"):
        self.r, self.split = random.Random(seed), split

    def pick(self, f):
        while True:
            s = f()
            if held(s) == (self.split == "held"):
                return s

    def raw(self, n):
        """an invented word: syllables, vocabulary pieces, or any letters."""
        r, k = self.r, self.r.random()
        if k < .55 or not PIECES and k < .85:
            return syl(r, n)
        return "".join(r.choice(PIECES) for _ in range(2)) if k < .85 else "".join(r.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(r.choice((3, 4, 5))))

    def word(self):
        return self.pick(lambda: self.raw(self.r.choice((1, 2, 2))))

    def noun(self):
        return self.pick(lambda: self.r.choice(NOUNS) if self.r.random() < .7 else self.raw(2))

    def name(self):
        return self.pick(lambda: self.r.choice(FIRST) if self.r.random() < .3 else self.raw(2).capitalize())

    def full(self):
        return self.name() + (" " + self.name() if self.r.random() < .4 else "")

    def city(self):
        return self.pick(lambda: self.r.choice(CITY) if self.r.random() < .3 else self.raw(self.r.choice((2, 2, 3))).capitalize())

    def code(self):
        r = self.r
        return r.choice([lambda: f"{r.choice('ABCDEFGHIJKLMNOPQRSTUVWXYZ')}{r.choice('ABCDEFGHIJKLMNOPQRSTUVWXYZ')}-{r.randrange(100, 10000)}", lambda: str(r.randrange(1000, 100000)), lambda: f"{r.choice('ABCDEFGHIJKLMNOPQRSTUVWXYZ')}{r.randrange(10, 1000)}"])()

    def num(self):
        r = self.r
        return r.choice([r.randrange(2, 100), r.randrange(100, 1000), r.randrange(1000, 10000), round(r.uniform(1, 100), 1)])

    def items(self):
        return [self.word() for _ in range(self.r.choice((2, 2, 3)))]

    def c(self, *a):
        return self.r.choice(a)
