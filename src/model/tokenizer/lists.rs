//! The lists of a `tokenizer.json`, each read no further than any model's is long.

use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::Deserializer;
use serde::de::Error as _;
use serde::de::IgnoredAny;
use serde::de::MapAccess;
use serde::de::SeqAccess;
use serde::de::Visitor;
use tokenizers::AddedToken;

/// CLIP has 49,408 tokens and 48,894 merges, T5 32,100 tokens.
const MOST_TOKENS: usize = 65_536;
/// Of one token; T5's longest is 48 bytes long.
const MOST_BYTES: usize = 256;
/// Of all tokens of a list; CLIP's are 0.4 MB together.
const MOST_BYTES_TOGETHER: usize = 1 << 20;
/// T5 has 102 of 1.5 kB together.
const MOST_ADDED: usize = 1_024;
const MOST_BYTES_ADDED: usize = 16 << 10;
/// T5's normalizer has three, CLIP's too.
const MOST_STEPS: usize = 8;

/// Tokens that are found in a text before all else.
#[derive(Default)]
pub(super) struct Added(pub Vec<AddedToken>);

/// A vocabulary.
pub(super) enum Vocab {
    /// Unigram's: tokens and their scores, in the order of their ids.
    Scores(Vec<(String, f64)>),
    /// BPE's.
    Ids(Vec<(String, u32)>),
}

/// Pairs that become one token, most frequent first.
pub(super) struct Merges(pub Vec<(String, String)>);

/// A list of not many.
pub(super) struct Few<T>(pub Vec<T>);

/// Counts tokens and their bytes.
pub(super) struct Room {
    tokens: usize,
    bytes: usize,
}

impl Room {
    /// For the tokens of a vocabulary, or its merges.
    pub(super) const LIST: Self = Self { tokens: MOST_TOKENS, bytes: MOST_BYTES_TOGETHER };
    const ADDED: Self = Self { tokens: MOST_ADDED, bytes: MOST_BYTES_ADDED };

    /// Fails where a token, or a pair of them, finds none.
    pub(super) fn take<const N: usize>(&mut self, tokens: [&str; N]) -> Result<(), String> {
        if let Some(token) = tokens.iter().find(|token| token.len() > MOST_BYTES) {
            let found = token.len();
            return Err(format!("expected tokens of at most {MOST_BYTES} bytes, found {found}"));
        }
        let bytes = tokens.iter().map(|token| token.len()).sum();
        match (self.tokens.checked_sub(1), self.bytes.checked_sub(bytes)) {
            (Some(tokens), Some(bytes)) => {
                (self.tokens, self.bytes) = (tokens, bytes);
                Ok(())
            }
            (None, _) => {
                Err("expected less tokens or merges, found more than any model has".into())
            }
            (_, None) => {
                Err("expected shorter tokens or merges, found more bytes than any model has".into())
            }
        }
    }
}

/// Reads a list, each element of which `take` looks at.
struct Listed<T, F>(F, PhantomData<T>);

impl<'de, T: Deserialize<'de>, F: FnMut(&T) -> Result<(), String>> Visitor<'de> for Listed<T, F> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut list: A) -> Result<Vec<T>, A::Error> {
        let mut all = Vec::new();
        while let Some(element) = list.next_element()? {
            (self.0)(&element).map_err(A::Error::custom)?;
            all.push(element);
        }
        Ok(all)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Few<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let mut count = 0;
        let take = move |_: &T| {
            count += 1;
            let more = || format!("expected at most {MOST_STEPS} steps, found more");
            if count > MOST_STEPS { Err(more()) } else { Ok(()) }
        };
        from.deserialize_seq(Listed(take, PhantomData)).map(Self)
    }
}

impl<'de> Deserialize<'de> for Added {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let mut room = Room::ADDED;
        let take = move |token: &AddedToken| room.take([&token.content]);
        from.deserialize_seq(Listed(take, PhantomData)).map(Self)
    }
}

impl<'de> Deserialize<'de> for Merges {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let mut room = Room::LIST;
        let take = move |Merge((a, b)): &Merge| room.take([a, b]);
        let merges = from.deserialize_seq(Listed(take, PhantomData))?;
        Ok(Self(merges.into_iter().map(|Merge(pair)| pair).collect()))
    }
}

/// Two tokens, in a list or, in older files, with a space between them.
struct Merge((String, String));

impl<'de> Deserialize<'de> for Merge {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct PairVisitor;
        impl<'de> Visitor<'de> for PairVisitor {
            type Value = Merge;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("two tokens")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Merge, E> {
                let pair = text.split_once(' ').filter(|(_, right)| !right.contains(' '));
                let pair = pair.map(|(left, right)| Merge((left.to_owned(), right.to_owned())));
                pair.ok_or_else(|| E::custom("expected two tokens with a space between them"))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut pair: A) -> Result<Merge, A::Error> {
                match (pair.next_element()?, pair.next_element()?, pair.next_element()?) {
                    (Some(left), Some(right), None::<IgnoredAny>) => Ok(Merge((left, right))),
                    _ => Err(A::Error::custom("expected two tokens")),
                }
            }
        }
        from.deserialize_any(PairVisitor)
    }
}

impl<'de> Deserialize<'de> for Vocab {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct VocabVisitor;
        impl<'de> Visitor<'de> for VocabVisitor {
            type Value = Vocab;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("tokens and their ids or scores")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Vocab, A::Error> {
                let mut room = Room::LIST;
                let take = move |(token, _): &(String, f64)| room.take([token]);
                Listed(take, PhantomData).visit_seq(list).map(Vocab::Scores)
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Vocab, A::Error> {
                let (mut room, mut ids) = (Room::LIST, Vec::new());
                while let Some((token, id)) = map.next_entry::<String, u32>()? {
                    room.take([&token]).map_err(A::Error::custom)?;
                    ids.push((token, id));
                }
                Ok(Vocab::Ids(ids))
            }
        }
        from.deserialize_any(VocabVisitor)
    }
}
