//! Where in device memory each buffer lies: blocks taken from the driver, cut into 256-byte units.
//!
//! The driver is asked only when nothing free is large enough; after the first image of a size
//! everything comes back from the free lists, which [`Arena::grown`] lets a test assert. Pure
//! bookkeeping: the driver calls are in `cuda/memory.rs`.

use std::collections::BTreeMap;

/// Every buffer starts at a multiple of this: the driver's own granularity.
const ALIGNMENT: usize = 256;
/// A range is tight if not more than one part in this many is left over.
const TIGHT: usize = 16;

/// Blocks and what is free in them.
#[derive(Debug, Default)]
pub(crate) struct Arena {
    /// First address to size of every block taken from the driver.
    blocks: BTreeMap<u64, usize>,
    /// First address to size of every free range; neighbours are merged, but not across blocks.
    free: BTreeMap<u64, usize>,
    grown: usize,
    in_use: usize,
    peak: usize,
}

/// The bytes that a buffer of `bytes` occupies.
pub(crate) fn rounded(bytes: usize) -> usize {
    bytes.max(1).next_multiple_of(ALIGNMENT)
}

impl Arena {
    /// The smallest free range that holds `bytes`, or none: then a block must be added.
    pub(crate) fn take(&mut self, bytes: usize) -> Option<u64> {
        self.take_of(bytes, usize::MAX)
    }

    /// The same, of a range that is little larger: what is left of one could be too small for others.
    pub(crate) fn take_tight(&mut self, bytes: usize) -> Option<u64> {
        self.take_of(bytes, bytes + bytes / TIGHT)
    }

    fn take_of(&mut self, bytes: usize, most: usize) -> Option<u64> {
        let bytes = rounded(bytes);
        let fits = self.free.iter().filter(|(_, size)| (bytes..=most).contains(*size));
        let (&address, &size) = fits.min_by_key(|(address, size)| (**size, **address))?;
        self.free.remove(&address);
        if size > bytes {
            self.free.insert(address + bytes as u64, size - bytes);
        }
        self.in_use += bytes;
        self.peak = self.peak.max(self.in_use);
        Some(address)
    }

    /// Gives back what [`Self::take`] gave for the same number of bytes.
    pub(crate) fn give_back(&mut self, address: u64, bytes: usize) {
        let bytes = rounded(bytes);
        self.in_use -= bytes;
        self.add_free(address, bytes);
    }

    /// Adds a block that the driver gave.
    pub(crate) fn add_block(&mut self, address: u64, bytes: usize) {
        self.blocks.insert(address, bytes);
        self.grown += 1;
        self.add_free(address, bytes);
    }

    fn add_free(&mut self, mut address: u64, mut bytes: usize) {
        let before = self.free.range(..address).next_back().map(|(&start, &size)| (start, size));
        if let Some((start, size)) = before
            && start + size as u64 == address
            && !self.blocks.contains_key(&address)
        {
            self.free.remove(&start);
            address = start;
            bytes += size;
        }
        let end = address + bytes as u64;
        if let Some(size) = self.free.get(&end).copied()
            && !self.blocks.contains_key(&end)
        {
            self.free.remove(&end);
            bytes += size;
        }
        self.free.insert(address, bytes);
    }

    /// Takes out the blocks in which no buffer lies, and gives their first addresses.
    pub(crate) fn take_unused_blocks(&mut self) -> Vec<u64> {
        let unused = |(address, size): (&u64, &usize)| {
            (self.free.get(address) == Some(size)).then_some(*address)
        };
        let addresses: Vec<u64> = self.blocks.iter().filter_map(unused).collect();
        for address in &addresses {
            self.blocks.remove(address);
            self.free.remove(address);
        }
        addresses
    }

    /// The first address of every block.
    pub(crate) fn blocks(&self) -> impl Iterator<Item = u64> {
        self.blocks.keys().copied()
    }

    /// The bytes of all blocks.
    pub(crate) fn block_bytes(&self) -> usize {
        self.blocks.values().sum()
    }

    /// The bytes of all blocks that no buffer uses.
    pub(crate) fn free_bytes(&self) -> usize {
        self.free.values().sum()
    }

    /// How often the driver was asked for memory.
    pub(crate) fn grown(&self) -> usize {
        self.grown
    }

    /// The most bytes that were in use at one time.
    pub(crate) fn peak(&self) -> usize {
        self.peak
    }

    /// Counts the peak from what is in use now.
    pub(crate) fn reset_peak(&mut self) {
        self.peak = self.in_use;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ranges_merge_when_they_come_back() {
        let mut arena = Arena::default();
        assert_eq!(arena.take(1), None);
        arena.add_block(4096, 1024);
        let taken: Vec<u64> = (0..4).map(|_| arena.take(200).unwrap()).collect();
        assert_eq!(taken, [4096, 4352, 4608, 4864]);
        assert_eq!(arena.take(1), None);
        for address in [4352, 4864, 4096, 4608] {
            arena.give_back(address, 200);
        }
        assert_eq!(arena.take(1024), Some(4096));
        assert_eq!((arena.grown(), arena.peak(), arena.free_bytes()), (1, 1024, 0));
    }

    #[test]
    fn blocks_without_a_buffer_can_go_back() {
        let mut arena = Arena::default();
        for block in [4096, 8192, 16384] {
            arena.add_block(block, 512);
        }
        let buffers = [arena.take(512).unwrap(), arena.take(100).unwrap()];
        assert_eq!(buffers, [4096, 8192]);
        assert_eq!(arena.take_unused_blocks(), [16384]);
        arena.give_back(4096, 512);
        assert_eq!(arena.take_unused_blocks(), [4096]);
        assert_eq!((arena.take(512), arena.free_bytes(), arena.grown()), (None, 256, 3));
        assert_eq!(arena.blocks().collect::<Vec<_>>(), [8192]);
    }

    #[test]
    fn a_tight_range_is_little_larger() {
        let mut arena = Arena::default();
        arena.add_block(1 << 20, 256 * 40);
        assert_eq!(arena.take_tight(256 * 32), None, "a fifth would be left");
        assert_eq!(arena.take_tight(256 * 38), Some(1 << 20));
        assert_eq!(
            (arena.take_tight(256 * 2), arena.free_bytes()),
            (Some((1 << 20) + 256 * 38), 0)
        );
    }

    #[test]
    fn adjoining_blocks_stay_apart() {
        let mut arena = Arena::default();
        arena.add_block(4096, 256);
        arena.add_block(4352, 256);
        assert_eq!(arena.take(512), None, "no buffer lies in two blocks");
        let [low, high] = [arena.take(256).unwrap(), arena.take(256).unwrap()];
        arena.give_back(low, 256);
        arena.give_back(high, 256);
        assert_eq!(arena.take(512), None);
    }

    proptest! {
        #[test]
        fn buffers_never_overlap_and_all_memory_comes_back(
            calls in prop::collection::vec((1usize..5000, any::<prop::sample::Index>()), 1..200),
        ) {
            let mut arena = Arena::default();
            let mut next_block = 1 << 20;
            let mut live: Vec<(u64, usize)> = Vec::new();
            for (bytes, pick) in calls {
                if bytes % 3 == 0 && !live.is_empty() {
                    let (address, bytes) = live.swap_remove(pick.index(live.len()));
                    arena.give_back(address, bytes);
                    continue;
                }
                let address = arena.take(bytes).unwrap_or_else(|| {
                    let block = rounded(bytes) * 2;
                    arena.add_block(next_block, block);
                    next_block += block as u64;
                    arena.take(bytes).unwrap()
                });
                prop_assert_eq!(address % 256, 0);
                for &(other, size) in &live {
                    let apart = address + bytes as u64 <= other || other + size as u64 <= address;
                    prop_assert!(apart, "{address} overlaps {other}");
                }
                live.push((address, bytes));
            }
            for (address, bytes) in live {
                arena.give_back(address, bytes);
            }
            prop_assert_eq!(arena.free_bytes(), arena.block_bytes());
            prop_assert_eq!(arena.in_use, 0);
            prop_assert!(arena.free.len() <= arena.blocks.len());
        }
    }
}
