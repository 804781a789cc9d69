//! Numbers as people read them.

/// `11.9 B`, `83.8 M`, `5.1 k` or `640`.
pub(super) fn count(number: usize) -> String {
    scaled(number, [" B", " M", " k", ""])
}

/// `23.8 GB`, `167.7 MB`, `5.1 kB` or `640 B`; 1 kB is 1000 bytes.
pub(super) fn bytes(number: usize) -> String {
    scaled(number, [" GB", " MB", " kB", " B"])
}

fn scaled(number: usize, units: [&str; 4]) -> String {
    let steps = [1_000_000_000, 1_000_000, 1000];
    for (step, unit) in steps.into_iter().zip(units) {
        if number >= step {
            let tenths = number / (step / 10);
            return format!("{}.{}{unit}", tenths / 10, tenths % 10);
        }
    }
    format!("{number}{}", units[3])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!(count(11_901_408_320), "11.9 B");
        assert_eq!(count(1000), "1.0 k");
        assert_eq!(count(999), "999");
        assert_eq!(bytes(23_802_816_640), "23.8 GB");
        assert_eq!(bytes(0), "0 B");
    }
}
