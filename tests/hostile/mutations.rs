//! What can be wrong with the files of a model: broken headers of weights over sound numbers, and broken JSON.
//!
//! Left out is what makes another sound model: other numbers, a bf16 tensor that claims to be f16, the names of
//! two tensors of one shape exchanged, fields that mean another value or may be left out (`texts::SOUND`).

mod texts;

use std::ops::Range;

use flux_rt::elastic::Mode;
use serde_json::Value;
use serde_json::json;

use crate::demo::Demo;
use crate::random::Random;

/// A file of the demo model as it should not be.
pub(crate) struct Case {
    pub name: String,
    pub file: &'static str,
    pub mode: Mode,
    pub change: Change,
}

pub(crate) enum Change {
    /// The first bytes alone.
    Cut(usize),
    /// These bytes at the start, then the original from that place on.
    Start(Vec<u8>, usize),
}

/// The weights, and how many broken ones of each there are in proportion: large files take time to write.
const WEIGHTS: [(&str, usize); 4] = [
    ("text_encoder/model.safetensors", 10),
    ("text_encoder_2/model.safetensors", 10),
    ("vae/diffusion_pytorch_model.safetensors", 6),
    ("transformer/diffusion_pytorch_model.safetensors", 2),
];

const JSONS: [&str; 10] = [
    "model_index.json",
    "transformer/config.json",
    "vae/config.json",
    "text_encoder/config.json",
    "text_encoder_2/config.json",
    "scheduler/scheduler_config.json",
    "elastic.json",
    "tokenizer/tokenizer_config.json",
    "tokenizer_2/tokenizer_config.json",
    "plans/L.json",
];

/// All cases, the same in every run.
pub(crate) fn all() -> Vec<Case> {
    let mut random = Random::new(2_000);
    let mut cases = Vec::new();
    for (file, share) in WEIGHTS {
        let weights = Weights::new(file);
        weights.cuts(share, &mut random, &mut cases);
        weights.bytes(share, &mut random, &mut cases);
        weights.tensors(share, &mut random, &mut cases);
        weights.whole(&mut cases);
    }
    for file in JSONS {
        texts::fields(file, &mut random, &mut cases);
    }
    for file in ["tokenizer/vocab.json", "tokenizer/merges.txt", "tokenizer_2/tokenizer.json"] {
        texts::text(file, 40, &mut random, &mut cases);
    }
    cases
}

/// A weight file in its parts.
struct Weights {
    file: &'static str,
    bytes: Vec<u8>,
    /// The length of the header and its own eight bytes.
    start: usize,
    /// Names and descriptions, in the order of the file.
    tensors: Vec<(String, Value)>,
}

impl Weights {
    fn new(file: &'static str) -> Self {
        let original = Demo::original(file);
        let length = u64::from_le_bytes(original[..8].try_into().unwrap());
        let start = 8 + usize::try_from(length).unwrap();
        let header: Value = serde_json::from_slice(&original[8..start]).unwrap();
        let tensors = header.as_object().unwrap().iter();
        let tensors = tensors.filter(|(name, _)| *name != "__metadata__");
        let mut tensors: Vec<_> =
            tensors.map(|(name, tensor)| (name.clone(), tensor.clone())).collect();
        tensors.sort_by_key(|(_, tensor)| tensor["data_offsets"][0].as_u64());
        let bytes = original.to_vec();
        Self { file, bytes, start, tensors }
    }

    fn case(&self, name: impl Into<String>, change: Change) -> Case {
        Case { name: name.into(), file: self.file, mode: Mode::Xl, change }
    }

    /// The sound numbers behind another header.
    fn with_header(&self, name: impl Into<String>, header: &str) -> Case {
        let mut start = u64::try_from(header.len()).unwrap().to_le_bytes().to_vec();
        start.extend_from_slice(header.as_bytes());
        self.case(name, Change::Start(start, self.start))
    }

    /// A header of these tensors.
    fn header<'t>(tensors: impl IntoIterator<Item = &'t (String, Value)>) -> String {
        let lines = tensors.into_iter().map(|(name, tensor)| format!("{}:{tensor}", json!(name)));
        format!("{{{}}}", lines.collect::<Vec<_>>().join(","))
    }

    /// Cut inside the length, the header and the numbers, at borders of tensors, and made longer.
    fn cuts(&self, share: usize, random: &mut Random, cases: &mut Vec<Case>) {
        let length = self.bytes.len();
        let mut at: Vec<usize> = (0..10).chain([self.start - 1, self.start, length - 1]).collect();
        at.extend((0..3 * share).map(|_| random.below(self.start)));
        at.extend((0..3 * share).map(|_| random.below(length)));
        let ends = self.tensors.iter().filter_map(|(_, tensor)| tensor["data_offsets"][1].as_u64());
        let ends: Vec<usize> = ends.map(|end| self.start + usize::try_from(end).unwrap()).collect();
        at.extend((0..3 * share).map(|_| *random.of(&ends)).filter(|end| *end < length));
        cases.extend(at.into_iter().map(|at| self.case(format!("cut at {at}"), Change::Cut(at))));
    }

    /// Other bytes in the header and its length.
    fn bytes(&self, share: usize, random: &mut Random, cases: &mut Vec<Case>) {
        let length = u64::try_from(self.start).unwrap() - 8;
        let file = u64::try_from(self.bytes.len()).unwrap();
        for wrong in [
            0,
            1,
            7,
            length - 1,
            length + 1,
            length * 2,
            file - 8,
            file,
            1 << 23,
            1 << 62,
            u64::MAX,
        ] {
            let start = wrong.to_le_bytes().to_vec();
            cases.push(self.case(format!("a header of {wrong} bytes"), Change::Start(start, 8)));
        }
        for number in 0..14 * share {
            let mut start = self.bytes[..self.start].to_vec();
            let at = 8 + random.below(self.start - 8);
            let flips = number % 3 + 1;
            for at in (at..self.start).step_by(1 + random.below(200)).take(flips) {
                start[at] = if number % 2 == 0 {
                    random.byte()
                } else {
                    start[at] ^ (1 << random.below(8))
                };
            }
            cases.push(self.case(
                format!("{flips} bytes of the header from {at}"),
                Change::Start(start, self.start),
            ));
        }
    }

    /// One tensor that is not what it was.
    fn tensors(&self, share: usize, random: &mut Random, cases: &mut Vec<Case>) {
        for number in 0..7 * share {
            let chosen = random.below(self.tensors.len());
            for (what, changed) in broken(&self.tensors[chosen], number, random) {
                let mut tensors = self.tensors.clone();
                tensors.splice(chosen..=chosen, changed);
                let name = format!("{}: {what}", self.tensors[chosen].0);
                cases.push(self.with_header(name, &Self::header(&tensors)));
            }
        }
        for _ in 0..3 * share {
            let [a, b] = [(); 2].map(|()| random.below(self.tensors.len()));
            let mut tensors = self.tensors.clone();
            let offsets =
                |tensors: &[(String, Value)], at: usize| tensors[at].1["data_offsets"].clone();
            let (of_a, of_b) = (offsets(&tensors, a), offsets(&tensors, b));
            if of_a != of_b {
                tensors[a].1["data_offsets"] = of_b;
                cases.push(self.with_header(
                    format!("tensors {a} and {b} in one place"),
                    &Self::header(&tensors),
                ));
            }
        }
    }

    /// Headers as a whole: absurd ones, and sound ones in other words, which change nothing.
    fn whole(&self, cases: &mut Vec<Case>) {
        let sound = Self::header(&self.tensors);
        let inside = &sound[1..sound.len() - 1];
        let empty = json!({"dtype": "F32", "shape": [0], "data_offsets": [0, 0]});
        let many: Vec<String> = (0..70_000).map(|i| format!("\"t{i}\":{empty}")).collect();
        let names = format!("\"{}\":{empty}", "\u{80}".repeat(3 << 20));
        let texts: Vec<String> = (0..700_000).map(|i| format!("\"{i:x}\":\"\"")).collect();
        let tensor = |shape: &str| {
            format!("\"t\":{{\"dtype\":\"F32\",\"shape\":{shape},\"data_offsets\":[0,0]}}")
        };
        for (name, header) in [
            ("70,000 tensors more", format!("{{{inside},{}}}", many.join(","))),
            ("a name of 3 million letters", format!("{{{names}}}")),
            ("700,000 texts", format!("{{\"__metadata__\":{{{}}},{inside}}}", texts.join(","))),
            (
                "a shape of 3 million numbers",
                format!("{{{}}}", tensor(&format!("[{}0]", "0,".repeat(3 << 20)))),
            ),
            ("a deep shape", format!("{{{}}}", tensor(&"[".repeat(1 << 20)))),
            ("deep", "{\"a\":".repeat(1 << 20)),
            ("an array", "[]".into()),
            ("nothing", "{}".into()),
            ("metadata of numbers", format!("{{\"__metadata__\":{{\"a\":1}},{inside}}}")),
            ("an unknown tensor", format!("{{\"t\":{empty},{inside}}}")),
            ("all twice", format!("{{{inside},{inside}}}")),
            ("no end", format!("{{{inside}")),
            ("words behind", format!("{{{inside}}} x")),
            ("spaces", format!("{{ {inside} }}{}", " ".repeat(999))),
            (
                "metadata",
                format!("{{{inside},\"__metadata__\":{{\"format\":\"pt\",\"x\":\"y\"}}}}"),
            ),
            ("backwards", Self::header(self.tensors.iter().rev())),
        ] {
            cases.push(self.with_header(name, &header));
        }
    }
}

/// A tensor's entry in ways that it cannot be, each with its name.
fn broken(
    (name, tensor): &(String, Value),
    number: usize,
    random: &mut Random,
) -> Vec<(String, Vec<(String, Value)>)> {
    let mut found = Vec::new();
    let mut add = |what: String, entries| found.push((what, entries));
    let with = |field: &str, value: Value| {
        let mut tensor = tensor.clone();
        tensor[field] = value;
        vec![(name.clone(), tensor)]
    };
    let named = |name: String| vec![(name, tensor.clone())];
    match number % 7 {
        0 => {
            for name in [
                format!("{name}x"),
                name[1..].to_owned(),
                name.to_uppercase(),
                format!("model.{name}"),
            ] {
                add(format!("renamed {name}"), named(name));
            }
        }
        1 => {
            add("twice".into(), vec![(name.clone(), tensor.clone()); 2]);
            add("removed".into(), Vec::new());
            let copy = (format!("{name}.copy"), tensor.clone());
            add("with a copy in the same place".into(), vec![(name.clone(), tensor.clone()), copy]);
        }
        2 | 3 => {
            let [begin, end] = [0, 1].map(|at| tensor["data_offsets"][at].as_i64().unwrap());
            let by = i64::from(random.byte()) + 1;
            for offsets in [
                [begin - by, end],
                [begin + by, end],
                [begin, end + by],
                [begin + 2, end + 2],
                [end, begin],
                [begin, begin],
                [begin, i64::MAX],
                [0, end - begin + 1],
            ] {
                add(format!("at {offsets:?}"), with("data_offsets", json!(offsets)));
            }
        }
        4 | 5 => {
            for shape in shapes_unlike(&tensor["shape"]) {
                add(format!("of shape {shape}"), with("shape", shape));
            }
        }
        _ => {
            for dtype in
                ["F32", "F64", "I8", "I16", "U16", "BOOL", "F8_E4M3", "F4", "bf16", "", "C64"]
            {
                add(format!("of dtype {dtype}"), with("dtype", json!(dtype)));
            }
            add("of dtype 7".into(), with("dtype", json!(7)));
        }
    }
    found
}

/// Shapes that are absurd, or are none, or are another than `shape`.
fn shapes_unlike(shape: &Value) -> Vec<Value> {
    let shape: Vec<u64> = shape.as_array().unwrap().iter().filter_map(Value::as_u64).collect();
    let mut shapes: Vec<Value> =
        [json!([]), json!([0]), json!([-1]), json!([1.5]), json!("x"), json!(null)].into();
    shapes.extend([
        json!([u64::MAX, 2]),
        json!([1_u64 << 40, 1_u64 << 40]),
        json!([1_u64 << 62, 0]),
        json!([1_u64 << 31]),
    ]);
    shapes.push(json!([vec![1], shape.clone()].concat()));
    shapes.push(json!(vec![1; 9]));
    if shape.len() > 1 {
        shapes.push(json!([shape.iter().product::<u64>()]));
    }
    if shape.len() == 2 && shape[0] != shape[1] {
        shapes.push(json!([shape[1], shape[0]]));
    }
    shapes
}

impl Case {
    /// Puts the file into the model.
    pub(crate) fn apply(&self, demo: &Demo) {
        let original = Demo::original(self.file);
        let rest = |from: usize| -> Range<usize> { from.min(original.len())..original.len() };
        match &self.change {
            Change::Cut(at) => demo.put(self.file, &[&original[..*at]]),
            Change::Start(start, from) => demo.put(self.file, &[start, &original[rest(*from)]]),
        }
    }
}
