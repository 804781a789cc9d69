//! SentencePiece's `precompiled_charsmap`, checked before the `tokenizers` crate believes it: that crate
//! takes memory for as many numbers as the map claims, and walks it without looking where that leads.
//!
//! Format (`spm_precompiled` 0.1): in base64 a u32 length in bytes; that many of a double array of u32; text,
//! whose pieces end in NUL. A node is a place in the array: the unit there holds a letter, whether a value
//! is below it and what to XOR to get to the node's children, one at each byte.

/// T5's array has 57,000.
const MOST_UNITS: usize = 1 << 18;
/// What one letter may become; of all of Unicode the longest is 33 bytes long (U+FDFA).
const MOST_TEXT: usize = 64;

/// Follows all letters from the root; fails with what is wrong.
pub(super) fn check(map: &[u8]) -> Result<(), String> {
    let (length, rest) = map.split_first_chunk::<4>().ok_or("less than 4 bytes")?;
    let units = usize::try_from(u32::from_le_bytes(*length)).map_or(usize::MAX, |bytes| bytes / 4);
    if units > MOST_UNITS || rest.len() / 4 < units {
        return Err(format!("an array of {units} numbers in {} bytes", rest.len()));
    }
    let (array, text) = rest.split_at(4 * units);
    let text = std::str::from_utf8(text).map_err(|error| format!("a text that is not: {error}"))?;
    let (array, _) = array.as_chunks::<4>();
    let unit = |at: usize| array.get(at).map(|unit| u32::from_le_bytes(*unit) as usize);
    let outside = |at: usize| format!("a step to {at}, where the array has {units} numbers");

    let root = children_of(unit(0).ok_or("an empty array")?, 0);
    let (mut seen, mut waiting) = (std::collections::HashSet::from([root]), vec![root]);
    while let Some(node) = waiting.pop() {
        // 0 ends a text, and these bytes are in no UTF-8.
        for letter in (1..=0xF4).filter(|letter| !matches!(letter, 0xC0 | 0xC1)) {
            let at = node ^ letter;
            let child = unit(at).ok_or_else(|| outside(at))?;
            if child & (1 << 31 | 0xFF) != letter {
                continue;
            }
            let next = children_of(child, at);
            if child & 1 << 8 != 0 {
                let start = unit(next).ok_or_else(|| outside(next))? & ((1 << 31) - 1);
                let Some(text) = text.get(start..) else {
                    return Err(format!("a text that starts at {start} of {}", text.len()));
                };
                let end = text.bytes().take(MOST_TEXT + 1).position(|byte| byte == 0);
                if end.is_none() && text.len() > MOST_TEXT {
                    return Err(format!("a text of more than {MOST_TEXT} bytes for a letter"));
                }
            }
            if seen.insert(next) {
                waiting.push(next);
            }
        }
    }
    Ok(())
}

/// What letters are added to by XOR below the node at `at`.
fn children_of(unit: usize, at: usize) -> usize {
    at ^ ((unit >> 10) << ((unit & 1 << 9) >> 6))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(units: &[u32], text: &[u8]) -> Result<(), String> {
        let length = u32::try_from(4 * units.len()).unwrap();
        let units = units.iter().flat_map(|unit| unit.to_le_bytes());
        let map: Vec<u8> =
            length.to_le_bytes().into_iter().chain(units).chain(text.iter().copied()).collect();
        check(&map)
    }

    /// The letter `a` leads to a value: the root's children are at 256, those of `a` at 0.
    fn units(value: u32) -> [u32; 512] {
        let mut units = [0; 512];
        units[0] = 256 << 10;
        let at = 256 + u32::from(b'a');
        units[256 + usize::from(b'a')] = u32::from(b'a') | 1 << 8 | (at ^ 1) << 10;
        units[1] = 1 << 31 | value;
        units
    }

    #[test]
    fn a_sound_map_passes() {
        checked(&units(0), b"x\0").unwrap();
        checked(&units(2), b"x\0").unwrap();
        checked(&units(0), &[[b'x'; 64].as_slice(), b"\0"].concat()).unwrap();
    }

    #[test]
    fn steps_and_texts_outside_are_found() {
        for (result, part) in [
            (checked(&units(3), b"x\0"), "starts at 3 of 2"),
            (checked(&units(1), "é\0".as_bytes()), "starts at 1 of 3"),
            (checked(&units(0), b"\xff"), "a text that is not"),
            (checked(&units(0)[..500], b"x\0"), "a step to"),
            (checked(&[], b""), "an empty array"),
            (check(b"abc"), "less than 4 bytes"),
            (check(b"\xff\xff\xff\xff"), "an array of 1073741823 numbers in 0 bytes"),
            (checked(&units(0), &[b'x'; 65]), "more than 64 bytes"),
        ] {
            let error = result.unwrap_err();
            assert!(error.contains(part), "{part}: {error}");
        }
    }
}
