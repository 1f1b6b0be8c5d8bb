"""Synthetic chats for a tiny DeepSeek-V3.2 model: the prompt encoder and the grammar."""
import json, re

from words import VERBS

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
