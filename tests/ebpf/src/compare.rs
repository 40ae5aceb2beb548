//! What a packet costs: a harness that draws the source address and calls the program under test, and programs to
//! compare with.

use core::intrinsics::{AtomicOrdering, atomic_cxchg};

use aya_ebpf::{
    bindings::xdp_action,
    btf_maps::{Array, LruHashMap, ProgramArray},
    helpers::generated::bpf_ktime_get_coarse_ns,
    macros::{btf_map, xdp},
    programs::XdpContext,
};
use ratelimit_common::{
    Address,
    parse::{Scope, parse},
};

use crate::{layout::Drawing, packet::Packet, random::draw, samples};

#[btf_map]
static DRAWING: Array<Drawing, 1> = Array::new();
/// The program under test.
#[btf_map]
static SUBJECT: ProgramArray<1> = ProgramArray::new();
/// The beginning of the frame, for programs that change it.
#[btf_map]
static TEMPLATE: Array<[u64; TEMPLATE_WORDS], 1> = Array::new();
/// When each source will have used up nothing, in nanoseconds.
#[btf_map]
static SOURCES: LruHashMap<Address, u64, { 1 << 20 }> = LruHashMap::new();

const TEMPLATE_WORDS: usize = 10;
/// Of a SYN without options, whose answers are as long.
const V4_FRAME: usize = 54;
const V6_FRAME: usize = 74;

/// 300 a minute.
const INCREMENT_NS: u64 = 200_000_000;
/// A burst of 300.
const TOLERANCE_NS: u64 = 299 * INCREMENT_NS;

/// Draws a source, writes it into the packet and goes over to the program under test.
///
/// The checksums are not corrected: none of the programs looks at them.
#[xdp]
pub fn harness(ctx: XdpContext) -> u32 {
    if write_source(&ctx).is_some() {
        // SAFETY: nothing here has a destructor that would be skipped.
        unsafe { SUBJECT.tail_call(&ctx, 0) };
    }
    xdp_action::XDP_ABORTED
}

/// The same for a program that changes the frame: it is written anew before each run.
#[xdp]
pub fn restoring_harness(ctx: XdpContext) -> u32 {
    if restore(&ctx).is_some() && write_source(&ctx).is_some() {
        // SAFETY: nothing here has a destructor that would be skipped.
        unsafe { SUBJECT.tail_call(&ctx, 0) };
    }
    xdp_action::XDP_ABORTED
}

#[inline(always)]
fn restore(ctx: &XdpContext) -> Option<()> {
    let words = TEMPLATE.get(0)?;
    let start = ctx.data();
    match DRAWING.get(0)?.family {
        4 => restore_words::<{ V4_FRAME / 8 }, { V4_FRAME % 8 }>(ctx, start, words),
        _ => restore_words::<{ V6_FRAME / 8 }, { V6_FRAME % 8 }>(ctx, start, words),
    }
}

#[inline(always)]
fn restore_words<const WORDS: usize, const REST: usize>(
    ctx: &XdpContext,
    start: usize,
    words: &[u64; TEMPLATE_WORDS],
) -> Option<()> {
    if start + WORDS * 8 + REST > ctx.data_end() {
        return None;
    }
    for index in 0..WORDS {
        // SAFETY: the word lies between the start and the end of the packet, which is nobody else's.
        unsafe { (start as *mut u64).add(index).write_unaligned(words[index]) };
    }
    let rest = words[WORDS].to_ne_bytes();
    for index in 0..REST {
        // SAFETY: as above.
        unsafe { ((start + WORDS * 8) as *mut u8).add(index).write(rest[index]) };
    }
    Some(())
}

/// The cost of the harness alone.
#[xdp]
pub fn empty(_: XdpContext) -> u32 {
    xdp_action::XDP_DROP
}

/// The least a filter for mail ports can do.
#[xdp]
pub fn parse_drop(ctx: XdpContext) -> u32 {
    match mail_source(&ctx) {
        Some(_) => xdp_action::XDP_DROP,
        None => xdp_action::XDP_PASS,
    }
}

/// A limiter with a table entry for each source, as filters of this kind usually have it.
#[xdp]
pub fn lru_gcra(ctx: XdpContext) -> u32 {
    let Some(source) = mail_source(&ctx) else {
        return xdp_action::XDP_PASS;
    };
    // SAFETY: the helper takes nothing and has no precondition.
    let now = unsafe { bpf_ktime_get_coarse_ns() };
    if admit(source, now) { xdp_action::XDP_PASS } else { xdp_action::XDP_DROP }
}

#[inline(always)]
fn admit(source: Address, now: u64) -> bool {
    const ORDER: AtomicOrdering = AtomicOrdering::SeqCst;
    let Some(cell) = SOURCES.get_ptr_mut(source) else {
        return SOURCES.insert(source, now + INCREMENT_NS, 0).is_ok();
    };
    // SAFETY: an aligned word of the map; other processors write it only as a whole.
    let seen = unsafe { cell.read_volatile() };
    let start = seen.max(now);
    if start - now > TOLERANCE_NS {
        return false;
    }
    // SAFETY: an aligned word of the map.
    unsafe { atomic_cxchg::<u64, ORDER, ORDER>(cell, seen, start + INCREMENT_NS).1 }
}

#[inline(always)]
pub fn mail_source(ctx: &XdpContext) -> Option<Address> {
    let parsed = parse(&Packet::new(ctx));
    let mail = matches!(parsed.port, 25 | 110 | 143 | 465 | 587 | 993 | 995 | 4190);
    (parsed.scope == Scope::Service && mail).then_some(parsed.source)
}

#[inline(always)]
fn write_source(ctx: &XdpContext) -> Option<()> {
    let drawing = DRAWING.get_ptr_mut(0)?;
    // SAFETY: a measurement runs on one processor at a time, and only it touches the value.
    let drawing = unsafe { &mut *drawing };
    let [high, low] = source(drawing);
    let start = ctx.data() + (drawing.source_at as usize & 0x3f);
    if drawing.family == 4 {
        write(ctx, start, (low as u32).to_be_bytes())
    } else {
        write(ctx, start, high.to_be_bytes())?;
        write(ctx, start + 8, low.to_be_bytes())
    }
}

#[inline(always)]
fn source(drawing: &mut Drawing) -> [u64; 2] {
    if drawing.samples != 0 {
        return samples::take(&mut drawing.next_sample, drawing.samples);
    }
    let network = drawing.network;
    let low = network.base[1] | (draw(&mut drawing.random).rotate_left(32) & network.hosts[1]);
    let high = if drawing.family == 4 { 0 } else { draw(&mut drawing.random) };
    [network.base[0] | (high & network.hosts[0]), low]
}

#[inline(always)]
fn write<const N: usize>(ctx: &XdpContext, start: usize, bytes: [u8; N]) -> Option<()> {
    if start + N > ctx.data_end() {
        return None;
    }
    // SAFETY: the bytes lie between the start and the end of the packet, which is nobody else's.
    unsafe { (start as *mut [u8; N]).write_unaligned(bytes) };
    Some(())
}
