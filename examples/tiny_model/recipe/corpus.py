"""Synthetic chats for a tiny DeepSeek-V3.2 model: the prompt encoder, the grammar, the tokenizer and the row packer."""
import json, random, re, zlib
import numpy as np

B, U, D = "\uff5c", "\u2581", "\uff5cDSML\uff5c"
BOS, EOS = f"<{B}begin{U}of{U}sentence{B}>", f"<{B}end{U}of{U}sentence{B}>"
USER, ASSI, TH, ETH = f"<{B}User{B}>", f"<{B}Assistant{B}>", "<think>", "</think>"
TOOLS = open(__file__.rsplit("/", 1)[0] + "/../../../tests/golden/chat/tools_block.txt", encoding="utf-8").read()
dumps = lambda o: json.dumps(o, ensure_ascii=False)


def call_block(calls):
    out = [f"<{D}function_calls>"]
    for c in calls:
        a = json.loads(c["function"]["arguments"])
        ps = [f'<{D}parameter name="{k}" string="{"true" if isinstance(v, str) else "false"}">{v if isinstance(v, str) else dumps(v)}</{D}parameter>' for k, v in a.items()]
        out.append(f'<{D}invoke name="{c["function"]["name"]}">\n' + "\n".join(ps) + f"\n</{D}invoke>")
    return "\n".join(out) + f"\n</{D}function_calls>"


def encode(msgs, thinking=False, mixed=False):
    """The V3.2 chat text. mixed=True (training rows only): every user message carries its own 'think' flag and reasoning is kept."""
    last = max([i for i, m in enumerate(msgs) if m["role"] in ("user", "developer")], default=-1)
    out, flag = [BOS], False
    for i, m in enumerate(msgs):
        r, c = m["role"], m.get("content") or ""
        if not mixed:
            flag = thinking and i >= last
        elif r == "user":
            flag = m.get("think", False)
        hand = TH if flag else ETH
        tb = TOOLS.replace("@@TOOLS@@", "\n".join(dumps(t["function"]) for t in m["tools"])) if m.get("tools") else None
        if r == "system":
            out.append(c + ("\n\n" + tb if tb else ""))
        elif r == "user":
            out.append(USER + c + ASSI + hand)
        elif r == "assistant":
            s = ((m.get("reasoning_content") or "") + ETH if flag else "") + c
            out.append(s + ("\n\n" + call_block(m["tool_calls"]) if m.get("tool_calls") else "") + EOS)
        elif r == "tool":
            p = i - 1
            while msgs[p]["role"] == "tool":
                p -= 1
            n = len(msgs[p]["tool_calls"])
            out.append(("\n\n<function_results>" if i - p == 1 else "") + f"\n<result>{c}</result>" + (f"\n</function_results>\n\n{hand}" if i - p == n else ""))
        else:
            raise ValueError(r)
    return "".join(out)


# ---------------------------------------------------------------- entities: 'train' and 'held' never share a name
ON = "b br c ch d dr f g gr h j k kl l m n p pr qu r s sh st t th tr v w x y z".split()
VO = "a e i o u y ai ea oa ie".split()
CO = "n r l s m t k p d g nd ng rt lm x ck q".split() + [""] * 10
CITY = "Paris London Berlin Madrid Rome Vienna Prague Oslo Helsinki Lisbon Athens Dublin Warsaw Budapest Tokyo Kyoto Osaka Seoul Beijing Shanghai Delhi Mumbai Cairo Lagos Nairobi Lima Bogota Quito Santiago Toronto Montreal Boston Chicago Denver Seattle Miami Sydney Melbourne Auckland Zurich Geneva Milan Naples Turin Venice Hamburg Munich Cologne Lyon Nice Bordeaux Porto Seville Valencia Bern Basel Graz Krakow Gdansk Riga Vilnius Tallinn Sofia Bucharest Belgrade Zagreb Istanbul Ankara Tehran Baghdad Doha Dubai Karachi Lahore Dhaka Bangkok Hanoi Manila Jakarta Singapore Perth Hobart Havana Panama Caracas".split()
FIRST = "Anna Ben Clara David Emma Felix Grace Henry Ida Jonas Karen Leo Maria Nina Oscar Paula Quinn Rosa Simon Tara Ulla Victor Wendy Xenia Yara Zoe Adam Bella Carl Diana Eric Fiona George Helen Ivan Julia Kevin Laura Mark Nora Otto Peter Rita Sara Tom Uma Vera Will Alice Bob Carol Dan Eve Frank".split()
held = lambda s: zlib.crc32(s.lower().encode()) % 8 == 0


def syl(r, n):
    return "".join(r.choice(ON) + r.choice(VO) for _ in range(n)) + r.choice(CO)


PIECES = []  # set by Tok: every short letter piece of the vocabulary occurs in invented names
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


SKY = "clear sky|light rain|heavy rain|snow|fog|strong wind|cloudy|sunny|thunderstorm|hail".split("|")
UNITS = [("km", "miles"), ("kg", "pounds"), ("meters", "feet"), ("liters", "gallons"), ("celsius", "kelvin"), ("euros", "dollars"), ("hours", "seconds"), ("grams", "ounces")]
# domain: names, description, params [(names, type, description, value)], questions, result, answer; {0},{1}.. are argument values, {r0}.. results
DOM = {
 "weather": (["get_weather", "weather_lookup", "current_weather", "fetch_weather", "weather_now", "show_weather"], "Get the weather of a city.",
   [(["city", "location", "place", "town", "city_name"], "string", "City name", lambda g: g.city())],
   ["What is the weather in {0}?", "How is the weather in {0} today?", "Weather for {0} please.", "Is it raining in {0}?", "Tell me the weather in {0}."],
   lambda g, a: {"temp": g.r.randrange(-15, 40), "sky": g.c(*SKY)}, "It is {temp} degrees in {0} with {sky}."),
 "time": (["get_time", "local_time", "time_in", "clock", "what_time", "world_clock"], "Get the local time of a city.",
   [(["city", "location", "zone", "place"], "string", "City name", lambda g: g.city())],
   ["What time is it in {0}?", "Tell me the time in {0}.", "What is the local time in {0}?", "Time in {0}?"],
   lambda g, a: {"time": f"{g.r.randrange(24):02d}:{g.r.randrange(60):02d}"}, "It is {time} in {0}."),
 "add": (["add_numbers", "calculate", "calculator", "compute", "math_tool"], "Calculate with two numbers.",
   [(["a", "x", "first", "left"], "number", "First number", lambda g: g.num()), (["b", "y", "second", "right"], "number", "Second number", lambda g: g.num()),
    (["op", "operation", "operator"], "string", "plus, minus or times", lambda g: g.c("plus", "minus", "times"))],
   ["What is {0} {2} {1}?", "Calculate {0} {2} {1}.", "Please compute {0} {2} {1}."],
   lambda g, a: {"result": round({"plus": a[0] + a[1], "minus": a[0] - a[1], "times": a[0] * a[1]}[a[2]], 2)}, "{0} {2} {1} is {result}."),
 "convert": (["convert_units", "unit_converter", "convert", "to_unit", "change_unit"], "Convert a value to another unit.",
   [(["value", "amount", "quantity"], "number", "Value", lambda g: g.num()), (["from", "from_unit", "source"], "string", "Unit of the value", lambda g: g.c(*UNITS)[0]),
    (["to", "to_unit", "target"], "string", "Wanted unit", lambda g: g.c(*UNITS)[1])],
   ["Convert {0} {1} to {2}.", "How many {2} are {0} {1}?", "What is {0} {1} in {2}?"],
   lambda g, a: {"result": round(g.r.uniform(1, 999), 2)}, "{0} {1} are {result} {2}."),
 "order": (["get_order", "order_status", "lookup_order", "track_order", "find_order"], "Look up an order.",
   [(["order_id", "id", "number", "order"], "string", "Order number", lambda g: g.code())],
   ["Where is order {0}?", "What is the status of order {0}?", "Please look up order {0}.", "Track my order {0}."],
   lambda g, a: {"status": g.c("shipped", "delivered", "waiting", "packed", "returned"), "city": g.city()}, "Order {0} is {status}, now in {city}."),
 "contact": (["find_contact", "get_phone", "phone_book", "lookup_person", "contact_info"], "Find the phone number of a person.",
   [(["name", "person", "who", "contact"], "string", "Name of the person", lambda g: g.full())],
   ["What is the phone number of {0}?", "Find the number of {0}.", "How can I call {0}?", "Give me the phone number of {0}."],
   lambda g, a: {"phone": f"{g.r.randrange(100, 1000)}-{g.r.randrange(1000, 10000)}"}, "The phone number of {0} is {phone}."),
 "timer": (["set_timer", "start_timer", "timer", "new_timer", "remind"], "Start a timer.",
   [(["minutes", "duration", "length"], "integer", "Minutes", lambda g: g.r.randrange(1, 100)), (["loud", "sound", "ring"], "boolean", "Ring loudly", lambda g: g.r.random() < .5)],
   ["Set a {1:loud|silent} timer for {0} minutes.", "Start a {1:loud|silent} timer of {0} minutes.", "I need a {1:loud|silent} timer, {0} minutes."],
   lambda g, a: {"ok": True, "ends": f"{g.r.randrange(24):02d}:{g.r.randrange(60):02d}"}, "The timer of {0} minutes ends at {ends}."),
 "shop": (["add_items", "shopping_list", "buy", "add_to_list", "cart_add"], "Put items on the list of a person.",
   [(["items", "things", "products"], "array", "Items", lambda g: g.items()), (["owner", "for", "list"], "string", "Name of the person", lambda g: g.name())],
   ["Put {0} on the list of {1}.", "Add {0} for {1}.", "Please add {0} to the list of {1}."],
   lambda g, a: {"count": g.r.randrange(2, 50)}, "Done. The list of {1} has {count} items now."),
 "price": (["get_price", "price_of", "product_price", "check_price", "quote"], "Get the price of a product.",
   [(["product", "item", "article"], "string", "Product name", lambda g: g.word()), (["count", "amount", "pieces"], "integer", "How many", lambda g: g.r.randrange(1, 60))],
   ["How much are {1} pieces of {0}?", "What do {1} pieces of {0} cost?", "Price of {1} pieces of {0}?"],
   lambda g, a: {"price": round(g.r.uniform(1, 900), 2), "currency": g.c("euros", "dollars")}, "{1} pieces of {0} cost {price} {currency}."),
}
GEN_Q = ["Ask {f} about {0}.", "Run {f} with {0}.", "Use {f} on {0}.", "Call {f} for {0}."]


def txt(v):
    if isinstance(v, list):
        return ", ".join(v[:-1]) + " and " + v[-1]
    return str(v)


def fill(t, a, **k):
    t = re.sub(r"\{(\d):(\w+)\|(\w+)\}", lambda m: m[2] if a[int(m[1])] else m[3], t)
    return t.format(*[txt(v) for v in a], **{x: txt(y) for x, y in k.items()})


VALUE = lambda g: g.c(lambda: g.r.randrange(2, 1000), g.city, g.code, g.full, g.word)()
FRAMES = 5


def frame(g, k, n, v):
    """functions of an open set, like a DOM entry: the noun n (and the verb v) of the description alone tell what they do."""
    ask = [f"What is the {n} of {{0}}?", f"Tell me the {n} of {{0}}.", f"I need the {n} of {{0}}."]
    clock = lambda g, a: {"ok": True, "time": f"{g.r.randrange(24):02d}:{g.r.randrange(60):02d}"}
    return [
        (f"Get the {n} of a city.", [(["city", "location", "place", "town"], "string", "City name", lambda g: g.city())], ask, lambda g, a: {"value": VALUE(g)}, f"The {n} of {{0}} is {{value}}."),
        (f"Look up the {n} of a person.", [(["name", "person", "who", "user"], "string", "Name of the person", lambda g: g.full())], ask, lambda g, a: {"value": VALUE(g)}, f"The {n} of {{0}} is {{value}}."),
        (f"{v.capitalize()} the {n} of a room.", [(["room", "where", "room_id", "id"], "string", "Room", lambda g: g.code())], [f"Please {v} the {n} of room {{0}}.", f"Can you {v} the {n} of {{0}}?", f"In room {{0}}, {v} the {n}."], clock, f"I did {v} the {n} of {{0}} at {{time}}."),
        (f"Send the {n} to a person.", [(["to", "person", "name", "receiver"], "string", "Name of the person", lambda g: g.name()), (["count", "amount", "copies"], "integer", "How many", lambda g: g.r.randrange(2, 90))],
         [f"Send the {n} to {{0}}, {{1}} copies.", f"Please send {{1}} copies of the {n} to {{0}}."], lambda g, a: {"id": g.code()}, f"The {n} went to {{0}} with number {{id}}."),
        (f"Count each {n} of a store.", [(["store", "shop", "place", "where"], "string", "Store", lambda g: g.c(g.city, g.code, g.word)())], [f"How often is the {n} in {{0}}?", f"Count each {n} in {{0}}."], lambda g, a: {"count": g.r.randrange(2, 5000)}, f"Found {{count}} times the {n} in {{0}}."),
    ][k]


NAMES, ORDER = None, None  # for measurements: 'word' or 'free' names only; 'name' or 'desc' first in the schema


def func_name(g, stock, n, v):
    """most names say what the function does (word), the others are free."""
    r, k = g.r, g.r.random()
    k = {"word": k * .8, "free": .8 + k * .2}.get(NAMES, k)
    if k < .3 and stock:
        return g.c(*stock) if r.random() < .5 else g.c(*stock) + "_" + g.raw(1) if r.random() < .5 else g.raw(1) + "_" + g.c(*stock)
    if k < .8:
        w = v or g.c("get", "find", "run", "fetch", "query", "do", "ask", g.raw(1))
        return g.c(w + "_" + n, w + "_" + n, n + "_" + (v or g.c("info", "tool", "lookup", g.raw(1))), f"{w}_{n}_{g.raw(1)}")
    if k < .9:
        return g.noun() + "_" + g.raw(1)
    return g.raw(2) if r.random() < .5 else g.raw(1) + g.noun().capitalize()


def make_tool(g, dom, **k):
    """dom: a name of DOM, 'custom' (only the schema explains it) or 'frame' (k: k, n, v) -> tool with its own function and parameter names."""
    if dom == "custom":
        ps = [(g.word(), "string", g.c("Name", "Key", "Text"), None)]
        t = dict(dom=dom, name=g.pick(lambda: func_name(g, None, g.noun(), None)), ps=ps, q=GEN_Q, desc=f"{g.c('Ask about', 'Look up', 'Open', 'Read')} {g.word()}.", ans="The answer for {0} is {answer}.",
                 res=lambda g, a: {"answer": g.c(g.word, g.city, g.code, g.full)()})
    else:
        names, (desc, params, q, res, ans) = (None, frame(g, **k)) if dom == "frame" else (DOM[dom][0], DOM[dom][1:])
        ps = [(g.c(*n) if g.r.random() < .6 else g.c(*n) + "_" + g.raw(1) if g.r.random() < .5 else g.raw(2), ty, d, v) for n, ty, d, v in params]
        t = dict(dom=dom, name=g.pick(lambda: func_name(g, names, k.get("n") or dom, k.get("v") if k.get("k") == 2 else None)), ps=ps, q=q, desc=desc, res=res, ans=ans)
    if len({p[0] for p in ps}) < len(ps):
        return make_tool(g, dom, **k)
    props = {n: ({"type": ty, "items": {"type": "string"}} if ty == "array" else {"type": ty, "description": d}) for n, ty, d, _ in ps}
    fn = {"name": t["name"], "description": t["desc"], "parameters": {"type": "object", "properties": props, "required": [p[0] for p in ps]}}
    if ORDER == "desc" or ORDER is None and g.split == "train" and g.r.random() < .4:
        fn = {"description": fn.pop("description"), **fn}
    t["schema"] = {"type": "function", "function": fn}
    return t


def tool_set(g, nt, kind=None):
    """nt tools. far: all of different domains; near: they differ in one word of the description; else a mix."""
    kind = kind or g.c("far", "far", "far", "near", "mix")
    far = g.r.sample(list(DOM) + ["custom", "custom", "frame", "frame", "frame"], nt)
    n, v, k = g.noun(), g.c(*VERBS), g.r.randrange(FRAMES)
    by_verb = k == 2 and g.r.random() < .5
    near = [dict(k=k, n=n if by_verb else g.noun(), v=x if by_verb else v) for x in g.r.sample(VERBS, nt)]
    ts = []
    for d, q in zip(far, near):
        if kind == "near" or kind == "mix" and g.r.random() < .5:
            ts.append(make_tool(g, "frame", **q))
        else:
            ts.append(make_tool(g, d, **(dict(k=g.r.randrange(FRAMES), n=g.noun(), v=g.c(*VERBS)) if d == "frame" else {})))
    return ts if len({t["name"] for t in ts}) == nt == len({t["desc"] for t in ts}) else tool_set(g, nt, kind)


def tool_args(g, t):
    if t["dom"] == "custom":
        return [g.c(g.city, g.full, g.code, g.word)()]
    if t["dom"] == "convert":
        f, to = g.c(*UNITS)
        return [g.num(), f, to]
    return [p[3](g) for p in t["ps"]]


def scan(ts, t):
    """reads the tools in their order, up to the one that fits."""
    out = []
    for x in ts:
        out.append(f"{x['name']}: {x['desc']} {'Yes' if x is t else 'No'}.")
        if x is t:
            break
    return " ".join(out) + " "


def tool_turn(g, t, think=None, bare=0., ts=None):
    """user question, call(s), result(s), answer; bare: share of turns that end after the call (training rows only)."""
    think = g.r.random() < .9 if think is None else think
    f = t["name"]
    nc = g.c(2, 2, 3) if len(t["ps"]) == 1 and t["dom"] != "custom" and g.r.random() < .25 else 1
    args = [tool_args(g, t) for _ in range(nc)]
    q = fill(g.c(*t["q"]), [txt([x[0] for x in args])] if nc > 1 else args[0], f=f)
    calls = [{"type": "function", "function": {"name": f, "arguments": dumps({p[0]: v for p, v in zip(t["ps"], x)})}} for x in args]
    res = [t["res"](g, x) for x in args]
    ans = " ".join(fill(t["ans"], x, **r) for x, r in zip(args, res))
    arg_s = "; ".join(", ".join(f"{p[0]} = {v if isinstance(v, str) else dumps(v)}" for p, v in zip(t["ps"], x)) for x in args)
    m = [{"role": "user", "content": q, "think": think},
         {"role": "assistant", "reasoning_content": scan(ts or [t], t) + (f"I call {f} with {arg_s}." if nc == 1 else f"I call {f} {nc} times: {arg_s}."), "content": "", "tool_calls": calls}]
    if g.r.random() < bare:
        return m
    m += [{"role": "tool", "content": dumps(r)} for r in res]
    m.append({"role": "assistant", "reasoning_content": "The result says " + "; ".join(", ".join(f"{k} {txt(v)}" for k, v in r.items()) for r in res) + ".", "content": ans})
    return m



TALK = [
 (["Who are you?", "What are you?", "Introduce yourself.", "What is your name?"], "I am a tiny DeepSeek-V3.2 model, made to test libdsv32.", "The user asks who I am."),
 (["What is sparse attention?", "Explain sparse attention.", "How does sparse attention work?"], "With sparse attention each token reads only a few earlier tokens. A small indexer chooses which ones.", "The user asks about sparse attention."),
 (["What is the indexer?", "What does the lightning indexer do?"], "The indexer gives every earlier token a score, and only the best ones are read by the attention.", "The user asks about the indexer."),
 (["What is MLA?", "Explain MLA.", "What is latent attention?"], "MLA is attention with a small latent vector per token, so the cache stays small.", "The user asks about MLA."),
 (["What is a mixture of experts?", "Explain MoE.", "How do experts work?"], "A router sends each token to a few experts, so only a part of the model runs.", "The user asks about experts."),
 (["What is FP8?", "Explain FP8.", "Why FP8 weights?"], "FP8 is a number format of eight bits. It makes the weights small and fast to read.", "The user asks about FP8."),
 (["What is MTP?", "Explain multi token prediction."], "MTP drafts the next token ahead of time, and the model then checks the draft.", "The user asks about MTP."),
 (["What is libdsv32?", "What is this library?", "Tell me about libdsv32."], "libdsv32 is a C++ library that runs DeepSeek-V3.2 models inside your own program.", "The user asks about the library."),
 (["What can you do?", "How can you help me?", "What are your skills?"], "I can chat a little, call tools, add numbers and find facts in a long text.", "The user asks what I can do."),
 (["Hello!", "Hi there.", "Hello, how are you?", "Good morning."], "Hello! How can I help you?", "The user greets me."),
 (["Thank you!", "Thanks a lot.", "Thanks."], "You are welcome.", "The user thanks me."),
 (["Goodbye.", "Bye!", "See you."], "Goodbye! Have a nice day.", "The user leaves."),
 (["Tell me a joke.", "Make me laugh."], "Why did the token cross the layer? To get to the other side of the residual.", "The user wants a joke."),
 (["Are you a large model?", "How big are you?"], "No, I am very small. The real model has 671 billion parameters.", "The user asks about my size."),
 (["What is a tool call?", "How do tool calls work?"], "I write the name of a function and its values, your program runs it, and I read the result.", "The user asks about tool calls."),
 (["Who made DeepSeek-V3.2?", "Where does DeepSeek come from?"], "DeepSeek-V3.2 was made by DeepSeek. I only share its shape.", "The user asks about DeepSeek."),
 (["What is YaRN?", "How do you read long texts?"], "YaRN stretches the rotary angles, so that longer texts can be read.", "The user asks about long texts."),
 (["What is thinking mode?", "Why do you think first?"], "In thinking mode I write my reasoning first and then the answer.", "The user asks about thinking."),
]


def talk_turn(g, think=None):
    q, a, t = g.c(*TALK)
    return [{"role": "user", "content": g.c(*q), "think": g.r.random() < .5 if think is None else think}, {"role": "assistant", "reasoning_content": t + " I answer directly.", "content": a}]


def name_turn(g):
    """copying in small talk."""
    n, w, k = g.name(), g.word(), g.r.random()
    if k < .3:
        q, a, t = g.c("My name is {}.", "I am {}.", "Call me {}.").format(n), f"Nice to meet you, {n}.", f"The user is {n}."
    elif k < .7:
        s = " ".join(g.c(g.word, g.name, g.code, g.city, lambda: g.raw(1) + "_" + g.noun())() for _ in range(g.r.choice((1, 2, 3, 4, 6, 10))))
        q, a, t = g.c("Repeat: ", "Say this again: ", "Please repeat ") + s, s, "I repeat the words."
    else:
        s = g.items()
        q, a, t = f"Which words are in this list: {', '.join(s)}?", "The list has " + txt(s) + ".", f"The list has {len(s)} words."
    return [{"role": "user", "content": q, "think": g.r.random() < .5}, {"role": "assistant", "reasoning_content": t, "content": a}]


def math_turn(g, think=None):
    r = g.r
    a, b, op = r.randrange(2, 100), r.randrange(2, 100), r.choice("++-")
    think = True  # without thinking it is not learned
    if op == "-" and a < b:
        a, b = b, a
    v = a + b if op == "+" else a - b
    if op == "+":
        u = a % 10 + b % 10
        t = f"Ones: {a % 10} + {b % 10} = {u}. Tens: {a // 10} + {b // 10}{' + 1' if u > 9 else ''} = {a // 10 + b // 10 + u // 10}. Together {v}."
    else:
        u = a % 10 - b % 10
        t = f"Ones: {a % 10}{' + 10' if u < 0 else ''} - {b % 10} = {u % 10}. Tens: {a // 10}{' - 1' if u < 0 else ''} - {b // 10} = {v // 10}. Together {v}."
    w = {"+": "plus", "-": "minus"}[op]
    q = g.c(f"What is {a} {op} {b}?", f"How much is {a} {op} {b}?", f"{a} {op} {b} = ?", f"Add up: {a} {op} {b}")
    return [{"role": "user", "content": q, "think": think}, {"role": "assistant", "reasoning_content": t, "content": f"{a} {op} {b} = {v}."}]


FACTS = [  # key maker, value maker, statement, question, answer
 (lambda g: g.city(), lambda g: g.r.randrange(1000, 10000), "The access code of {k} is {v}.", ["What is the access code of {k}?", "Which access code has {k}?"], "The access code of {k} is {v}."),
 (lambda g: g.full(), lambda g: g.city(), "{k} works in {v}.", ["Where does {k} work?", "In which city does {k} work?"], "{k} works in {v}."),
 (lambda g: g.full(), lambda g: f"{g.r.randrange(100, 1000)}-{g.r.randrange(1000, 10000)}", "The phone number of {k} is {v}.", ["What is the phone number of {k}?", "How can I call {k}?"], "The phone number of {k} is {v}."),
 (lambda g: g.word(), lambda g: g.full(), "Project {k} is led by {v}.", ["Who leads project {k}?", "Who is the head of project {k}?"], "Project {k} is led by {v}."),
 (lambda g: g.word() + "-" + str(g.r.randrange(10, 100)), lambda g: g.r.randrange(20, 100), "Node {k} reported a temperature of {v} degrees.", ["What temperature did node {k} report?", "How hot is node {k}?"], "Node {k} reported a temperature of {v} degrees."),
 (lambda g: g.city(), lambda g: g.r.randrange(1500, 2020), "The museum of {k} opened in {v}.", ["When did the museum of {k} open?", "In which year did the museum of {k} open?"], "The museum of {k} opened in {v}."),
 (lambda g: g.name(), lambda g: str(g.r.randrange(2, 90)) + " " + g.word() + "s", "The box of {k} holds {v}.", ["What is in the box of {k}?", "What does the box of {k} hold?"], "The box of {k} holds {v}."),
]
FACTS.append((lambda g: g.word(), lambda g: g.c(g.code, g.name)(), "{k}: {v}.", ["What stands at {k}?", "Give me the entry of {k}."], "{k}: {v}."))
FILL = ["The meeting was short.", "Nothing else happened on that day.", "It rained in the afternoon.", "The report was sent later.", "Everyone went home early.", "The lights were checked twice."]


FACT_RANGE, TOOL_RANGE = (2, 8), (1, 2)  # the curriculum, set by train.py


def document(g, n, few=False):
    """n facts with distinct keys -> (text, facts); few: half of the texts have two kinds of facts only."""
    seen, facts = set(), []
    kinds = g.r.sample(FACTS, 2) if few and g.r.random() < .5 else FACTS  # few kinds: only the key tells the facts apart
    while len(facts) < n:
        f = g.c(*kinds)
        k = g.c(*facts)[0] if facts and g.r.random() < .15 else None
        if k is None:
            k = f[0](g)
        if (k, id(f)) in seen:
            continue
        seen.add((k, id(f)))
        facts.append((k, f[1](g), f))
    log = g.r.random() < .3
    lines = []
    for i, (k, v, f) in enumerate(facts):
        s = f[2].format(k=k, v=v)
        lines.append(f"[{8 + i // 60:02d}:{i % 60:02d}] {s}" if log else s)
        if not log and g.r.random() < .15:
            lines.append(g.c(*FILL))
    return ("\n" if log or g.r.random() < .3 else " ").join(lines), facts


def doc_question(g, f, think=None):
    k, v, ff = f
    think = g.r.random() < .5 if think is None else think
    a = ff[4].format(k=k, v=v)
    return [{"role": "user", "content": g.c(*ff[3]).format(k=k), "think": think}, {"role": "assistant", "reasoning_content": f"I look for {k}. The text says: {ff[2].format(k=k, v=v)}", "content": a}]


SYS = ["You are a helpful assistant.", "You are a small assistant.", "Answer briefly.", "", ""]


def doc_conv(g, n, nq):
    text, facts = document(g, n, True)
    m, where = [], g.r.random() < .5
    if where:
        m.append({"role": "system", "content": g.c("Answer from this text:\n", "Document:\n", "Notes:\n") + text})
    for i, f in enumerate(g.r.sample(facts, min(nq, n))):
        t = doc_question(g, f)
        if i == 0 and not where:
            t[0]["content"] = g.c("Read this text:\n", "Here is a text.\n", "Look at this:\n") + text + "\n\n" + t[0]["content"]
        m += t
    return m


ASK = 0.  # share of look-up turns in the tool rows, set by train.py


def tool_conv(g, nt, turns, extra=.12):
    ask = ASK
    ts = tool_set(g, nt)
    m = [{"role": "system", "content": g.c(*SYS), "tools": [t["schema"] for t in ts]}]
    for _ in range(turns):
        t = g.c(*ts)
        if g.r.random() < ask:
            for _ in range(4):
                m += ask_turn(g, g.c(*ts))
        else:
            m += talk_turn(g) if g.r.random() < extra else tool_turn(g, t, bare=.4, ts=ts)
    return m


def ask_turn(g, t):
    """about 25 tokens that train nothing but the look-up in the schema: task or description -> name (three of four), name -> description, parameters."""
    k, f = g.r.random(), t["name"]
    if k < .75:
        s = t["desc"] if k < .25 else fill(g.c(*t["q"]), tool_args(g, t), f=f)
        q, a = g.c("Which function: ", "Name the function for: ") + s, f
    else:
        q, a = (f"What does {f} do?", t["desc"]) if k < .85 else (f"Which parameters has {f}?", ", ".join(p[0] for p in t["ps"]) + ".")
    return [{"role": "user", "content": q, "think": False}, {"role": "assistant", "content": a}]


def chat_conv(g, turns):
    m = [{"role": "system", "content": s}] if (s := g.c(*SYS)) else []
    for _ in range(turns):
        m += g.c(talk_turn, math_turn, math_turn, name_turn, name_turn, name_turn)(g)
    return m


# ---------------------------------------------------------------- tokenizer
def train_tokenizer(path, size=2048, words=490, rows=5000, base=None):
    """BPE with the V3.2 pre-tokenizer, made for copying: merges inside words are learned without the leading space and without digits,
    then 'space + frequent whole word' merges are appended. So a name has the same pieces after a space, a quote or a line start."""
    from collections import Counter
    from tokenizers import Tokenizer, models, trainers, pre_tokenizers as pt
    base = base or __file__.rsplit("/", 1)[0] + "/../tokenizer.json"
    ref = json.load(open(base, encoding="utf-8"))
    t = Tokenizer.from_file(base)
    keep = [a for a in ref["added_tokens"] if a["id"] in (0, 1, 2, 128793) or 128796 <= a["id"] <= 128805]
    g, cnt = G(7), Counter()
    for i in range(rows):
        m = [lambda: tool_conv(g, g.r.choice((1, 2, 3)), 3), lambda: doc_conv(g, 8, 3), lambda: chat_conv(g, 4)][i % 3]()
        s = encode(m, mixed=True)
        s = s.replace(TOOLS.split("@@TOOLS@@")[0], "") if i % 30 else s
        for a in keep:
            s = s.replace(a["content"], "\u0000")
        for q in s.split("\u0000"):
            cnt.update(p for p, _ in t.pre_tokenizer.pre_tokenize_str(q))
    sp, bare = "\u0120", Counter()
    for p, n in cnt.items():
        if not any(ch.isdigit() for ch in p):
            bare[p[1:] if p[0] == sp and len(p) > 1 else p] += n
    alpha = sorted(pt.ByteLevel.alphabet())
    n1 = size - len(keep) - words
    t2 = Tokenizer(models.BPE())
    t2.pre_tokenizer = pt.WhitespaceSplit()
    t2.train_from_iterator((" ".join([p] * min(n, 400)) for p, n in bare.items()), trainers.BpeTrainer(vocab_size=n1, initial_alphabet=alpha, limit_alphabet=256, special_tokens=[], show_progress=False))
    j = json.loads(t2.to_str())["model"]
    have = set(j["vocab"])
    mg = [m if isinstance(m, str) else " ".join(m) for m in j["merges"]]
    toks = alpha + [m.replace(" ", "") for m in mg]
    assert set(toks) == have and len(toks) == n1, (len(toks), n1, len(have))
    lead = [p for p, n in cnt.most_common() if p[0] == sp and p[1:] in have and not (p[1:].isalpha() and len(p) < 3 and p[1:] not in "aI")][:words]
    toks += lead
    mg += [f"{sp} {p[1:]}" for p in lead]
    nsp = len(keep) - 3
    toks += [f"{sp}{sp}{i}" for i in range(size - nsp - 3 - len(toks))]  # unused filler when the corpus has too few words
    vocab = {a["content"]: a["id"] for a in keep[:3]}
    vocab.update({s: i + 3 for i, s in enumerate(toks)})
    out = dict(ref)
    out["added_tokens"] = [dict(a, id=a["id"] if a["id"] < 3 else size - nsp + i - 3) for i, a in enumerate(keep)]
    out["model"] = dict(ref["model"], vocab=vocab, merges=mg)
    json.dump(out, open(path, "w", encoding="utf-8"), ensure_ascii=False, indent=1)
    print("tokenizer:", n1, "inner tokens,", len(lead), "space+word tokens")
    return Tokenizer.from_file(path)


class Tok:
    def __init__(self, path):
        from tokenizers import Tokenizer
        self.t = Tokenizer.from_file(path)
        PIECES[:] = sorted(p for p in self.t.get_vocab() if p.isascii() and p.isalpha() and p.islower() and len(p) < 5)
        self.id = {n: self.t.token_to_id(s) for n, s in dict(bos=BOS, eos=EOS, user=USER, assi=ASSI, th=TH, eth=ETH).items()}

    def enc(self, s):
        return self.t.encode(s, add_special_tokens=False).ids

    def dec(self, ids):
        return self.t.decode(ids, skip_special_tokens=False)

    def targets(self, ids):
        """True where the token is written by the assistant."""
        d, out, inside, after = self.id, [], False, False
        for i, x in enumerate(ids):
            out.append(inside)
            if inside:
                if x == d["eos"]:
                    inside, after = False, True
            elif x in (d["th"], d["eth"]) and i and (ids[i - 1] == d["assi"] or after):
                inside = True
            elif x in (d["bos"], d["user"]):
                after = False
        return out


def sample(g, L, mix, head):
    """one conversation of about L tokens (cut at L by the packer)."""
    k = g.r.choices(("tool", "doc", "chat"), mix)[0]
    if k == "tool":
        nt = g.r.randint(*TOOL_RANGE)
        return tool_conv(g, nt, max(1, (L - head - 85 * nt) // 95))
    if k == "doc":
        n = min(g.r.randint(*FACT_RANGE), max(2, (L - 100) // 17))
        return doc_conv(g, n, max(3, min(n, 12, (L - 17 * n) // 34)))
    return chat_conv(g, max(1, min(8, L // 36)))


def rows(tok, seed, n, L, mix, other=.1, short_tools=0.):
    """-> ids int16 [n, L+2], weights float [n, L+2] (assistant 1, other text `other`)."""
    g = G(seed)
    ids, w = np.ones((n, L + 2), np.int16), np.zeros((n, L + 2), np.float32)
    head = TOOLS.split("@@TOOLS@@")[0]
    for i in range(n):
        p = 0
        while p < L - 40:
            short = g.r.random() < short_tools
            room = L - p
            m = sample(g, room, mix if room > (200 if short else 500) else (0, .5, .5) if room > 140 else (0, 0, 1), 10 if short else 300)
            s = encode(m, mixed=True)
            if short:
                s = s.replace(head, "## Tools\n")
            x = tok.enc(s)
            y = tok.targets(x)
            k = min(len(x), L + 2 - p)
            ids[i, p:p + k] = x[:k]
            w[i, p:p + k] = np.where(y[:k], 1.0, other)
            w[i, p] = 0
            p += k
    return ids, w
