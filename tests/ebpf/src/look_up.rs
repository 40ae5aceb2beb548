//! Ways to look a source up: the gate's, and what others use.

use aya_ebpf::{
    bindings::xdp_action,
    btf_maps::{Array, HashMap, LpmTrie, lpm_trie::Key},
    macros::{btf_map, xdp},
    programs::XdpContext,
};
use ratelimit_common::{Address, ClassId, map::MMAPABLE};

use crate::{bans, compare::mail_source, count, layout::Batch, lists, samples};

/// Which set is in force, as in the gate.
#[btf_map]
static LAB_EPOCH: Array<u32, 1> = Array::new();
// How large these are is said when they are loaded.
#[btf_map]
static TRIE_V4: LpmTrie<[u8; 4], u32, 1> = LpmTrie::new();
#[btf_map]
static TRIE_V6: LpmTrie<[u8; 16], u32, 1> = LpmTrie::new();
#[btf_map]
static HOSTS_V4: HashMap<u32, u32, 1> = HashMap::new();
#[btf_map]
static HOSTS_V6: HashMap<Address, u32, 1> = HashMap::new();
/// Which samples are to be classified.
#[btf_map]
static BATCH: Array<Batch, 1> = Array::new();
/// Their classes, in words: what is mapped into memory lies at multiples of eight bytes.
#[btf_map]
static CLASSES: Array<u64, 1, MMAPABLE> = Array::new();

/// Drops what is in the table.
#[xdp]
pub fn in_table(ctx: XdpContext) -> u32 {
    drop_if(mail_source(&ctx).is_some_and(|source| class(&source) != ClassId::NONE))
}

#[xdp]
pub fn in_trie(ctx: XdpContext) -> u32 {
    drop_if(mail_source(&ctx).is_some_and(|source| match source.is_v4() {
        true => TRIE_V4.get(&Key::new(32, (source.words().1 as u32).to_be_bytes())).is_some(),
        false => TRIE_V6.get(&Key::new(128, source.octets())).is_some(),
    }))
}

/// Hosts only: a hash table knows no networks.
#[xdp]
pub fn in_hash(ctx: XdpContext) -> u32 {
    drop_if(mail_source(&ctx).is_some_and(|source| match source.is_v4() {
        true => HOSTS_V4.get_ptr(source.words().1 as u32).is_some(),
        false => HOSTS_V6.get_ptr(source).is_some(),
    }))
}

/// Drops who is banned. The clock is left out: the limiter reads it in any case.
#[xdp]
pub fn in_bans(ctx: XdpContext) -> u32 {
    drop_if(mail_source(&ctx).is_some_and(|source| bans::stop(&source, 1, 1)))
}

/// Looks a source up in the table, counts what it found, and drops the packet in any case.
#[xdp]
pub fn count_listed(ctx: XdpContext) -> u32 {
    let Some(source) = mail_source(&ctx) else {
        return xdp_action::XDP_PASS;
    };
    count::listed(class(&source) != ClassId::NONE);
    xdp_action::XDP_DROP
}

/// Writes down the class of the next sample; the packet means nothing.
#[xdp]
pub fn classify(_: XdpContext) -> u32 {
    let Some(batch) = BATCH.get_ptr_mut(0) else {
        return xdp_action::XDP_ABORTED;
    };
    // SAFETY: one run at a time, and only it touches the value.
    let batch = unsafe { &mut *batch };
    let place = batch.next;
    let [high, low] = samples::take(&mut batch.next, batch.samples);
    let Some(answer) = CLASSES.get_ptr_mut(place) else {
        return xdp_action::XDP_ABORTED;
    };
    // SAFETY: a word of the map, which userspace reads when the runs are over.
    unsafe { *answer = class(&Address::from_words(high, low)).0.into() };
    xdp_action::XDP_DROP
}

#[inline(always)]
fn class(source: &Address) -> ClassId {
    match LAB_EPOCH.get(0) {
        Some(epoch) => lists::class(*epoch & 1, source),
        None => ClassId::NONE,
    }
}

#[inline(always)]
const fn drop_if(found: bool) -> u32 {
    if found { xdp_action::XDP_DROP } else { xdp_action::XDP_PASS }
}
