"""Text: sentences that the tiny tokenizers are trained on, and the prompts that the fixtures tokenize."""

SENTENCES = """\
A cat holding a sign that says hello world.
a photo of a forest with mist swirling around the tree trunks
The word "FLUX" is painted over it in big, red brush strokes with visible texture.
An astronaut riding a horse on the moon, cinematic lighting, 35mm film.
it's a dog, isn't it? They've said they'll come; we're sure he'd wait, I'm told.
A bowl of ramen with a soft boiled egg, steam rising, studio light.
Two small children are playing on a beach at sunset, golden hour, long shadows.
portrait of an old man with a white beard and blue eyes, highly detailed
An isometric drawing of a tiny city with trams, trees and a river.
A red sports car driving through the rain at night, neon reflections on wet streets.
The mountain lake is calm, and its water mirrors the snow on the peaks.
black and white photograph of a jazz musician playing the saxophone
A watercolor painting of a hummingbird drinking from a purple flower.
A robot reading a newspaper in a cafe in Paris, oil on canvas, 1920s style.
close-up of a green frog on a leaf, macro lens, shallow depth of field
A cozy wooden cabin in the snow with smoke coming out of the chimney.
Three hot air balloons float over the desert in the early morning.
a cute corgi wearing sunglasses and a yellow raincoat, jumping over a puddle
A medieval castle on a cliff above the stormy ocean, dramatic sky.
The label on the bottle reads "FRESH MILK 2.5%" in round letters.
An underwater scene with a whale, coral and hundreds of little fish.
A steaming cup of coffee next to a laptop on a wooden table, top view.
Futuristic train station with glass domes and hanging gardens.
a bouquet of roses, tulips and daisies in a glass vase by the window
A street market in Marrakesh with spices, lamps and carpets.
The northern lights over a frozen lake, stars and a small tent.
A detailed map of an imaginary island with mountains and harbours.
An owl made of clockwork parts sits on a branch under a full moon.
a plate of sushi, a bowl of rice and chopsticks, food photography
A ballerina dancing on stage in a spotlight, motion blur.
The library has tall shelves, ladders and thousands of old books.
A fox sleeping in the autumn leaves, soft light, warm colors.
An old sailing ship in a bottle on the captain's desk.
A neon sign that says "OPEN 24 HOURS" above the door of a diner.
pixel art of a knight fighting a dragon in a dungeon, 16 bit
A naïve café sign, a jalapeño dish, an über-modern façade and a crème brûlée.
A panda eating bamboo in the fog, in the style of an ink painting.
A lighthouse on a rocky coast, waves crashing, seagulls in the wind.
A child's drawing of a house, the sun and a happy family.
The year is 2049: 1234567890 lights shine over the city of 78 million people.
""".splitlines()

# What both tokenizers are compared on. The comments name the trap behind a prompt.
PROMPTS = [
    "",
    " ",
    "a",
    "A cat holding a sign that says hello world",
    "it's 3.14!! I'M sure they'll've said don't, it'd re'd 's 't",
    "  leading and  double   spaces,\ttab\nnewline and trailing  ",
    "UPPER CASE and MiXeD CaSe",
    "digits 1234567890 and v2.0-rc1, 1,000.50%",
    "naïve café, crème brûlée",
    "cafe\u0301 nai\u0308ve",  # decomposed: NFC for CLIP, NFKC for T5
    "İstanbul ΟΔΥΣΣΕΥΣ straße",  # lower case is per character: no final sigma, two characters for İ
    "ﬁne ½ cup №5 ™ Ⅳ ｆｕｌｌ １２３ ①②③",  # compatibility forms
    "東京の猫 고양이 кошка кот",
    "emoji 😀 👩‍🚀 🏳️‍🌈 end",
    "no\u00a0break\u2003em\u3000wide\u200bzero",  # white space that is not ASCII
    "!!!???... --- ### @#$%^&*() [x] {y} <z> a_b \\ / | ~ `",
    '"quoted" ‘single’ “double” – dash — em … dots',
    "supercalifragilisticexpialidocious antidisestablishmentarianism",
    "under▁score ▁ piece",  # the SentencePiece space mark typed by a user
    "cat " * 700,
    ("The quick brown fox, 42 times over, jumps past the lazy dog's fence. " * 40).strip(),
]

# Special tokens typed as text: kept apart, since tools treat them differently.
SPECIAL_PROMPTS = ["a <|endoftext|> b", "x</s>y <pad> z <extra_id_0>", "<|startoftext|>cat<|endoftext|>"]
