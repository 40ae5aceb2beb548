//! The lists' map, and the question which class a source is in.

use aya_ebpf::{
    btf_maps::{Array, ArrayOfMaps},
    macros::btf_map,
};
use ratelimit_common::{
    Address,
    lookup::{ClassId, LINE_WORDS, Line, Lines, find_v4, find_v6},
    map::{INNER_MAP, MMAPABLE},
};

/// The networks of all lists, of each set. The controller makes tables of any size and puts them here.
///
/// The type of a line's words, because Linux 6.1 takes a table made without type information for another kind than one of
/// structs.
#[btf_map]
static LISTS: ArrayOfMaps<Array<[u64; LINE_WORDS], 1, { MMAPABLE | INNER_MAP }>, 2> = ArrayOfMaps::new();

/// The class of a source in the lists of a set.
#[inline(always)]
pub fn class(epoch: u32, source: &Address) -> ClassId {
    ClassId(match source.is_v4() {
        true => class_of_v4(epoch, source.words().1 as u32),
        false => class_of_v6(epoch, source),
    } as u16)
}

/// The lists of one set.
struct ListsOf {
    epoch: u32,
}

impl Lines for ListsOf {
    #[inline(always)]
    fn line(&self, index: u32) -> Option<&Line> {
        let words = LISTS.get_value(self.epoch, &index)?;
        // SAFETY: a line is its words, transparently, and the map holds lines at multiples of their size.
        Some(unsafe { &*core::ptr::from_ref(words).cast::<Line>() })
    }
}

/// Functions of their own, and global, so that the verifier checks them once and not again for every way there; two, because
/// the stack is small.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn class_of_v4(epoch: u32, source: u32) -> u32 {
    find_v4(&ListsOf { epoch: epoch & 1 }, source).0.into()
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn class_of_v6(epoch: u32, source: *const Address) -> u32 {
    // SAFETY: the caller passes a reference; the verifier asks for the comparison with null.
    match unsafe { source.as_ref() } {
        Some(source) => find_v6(&ListsOf { epoch: epoch & 1 }, *source).0.into(),
        None => 0,
    }
}
