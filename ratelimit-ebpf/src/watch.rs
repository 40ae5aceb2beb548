//! The program that watches sockets: who completes a handshake, and what is open.

use core::{
    ffi::c_void,
    intrinsics::{AtomicOrdering, atomic_xadd, atomic_xsub},
};

use aya_ebpf::{
    bindings::{
        BPF_NOEXIST, BPF_SK_STORAGE_GET_F_CREATE, BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB, BPF_SOCK_OPS_STATE_CB,
        BPF_SOCK_OPS_STATE_CB_FLAG, BPF_TCP_CLOSE, BPF_TCP_ESTABLISHED, bpf_sock,
    },
    helpers::generated::{bpf_get_netns_cookie, bpf_sk_storage_get},
    programs::SockOpsContext,
};
use ratelimit_common::{
    Address, Entry, Moment, Service, ServiceId, Tables as _,
    limiter::complete,
    proof::{Mark, Open, OpenKey, PROVEN_PER_SITE, Proven, Watched, proven_source, site},
    suspicion::{note_arrived, note_completes, set_capped},
};

use crate::{
    listed,
    proofs::{CompletedCells, MARKS, OPEN, PROVEN, PROVEN_OF_SITE, WATCHED, count_of, mark_proven},
    tables::{Gate, clock_ns},
};

const ORDER: AtomicOrdering = AtomicOrdering::Relaxed;
/// For additions whose outcome is asked for: LLVM 22 makes relaxed ones an instruction that tells none.
const TELLING: AtomicOrdering = AtomicOrdering::SeqCst;
const AF_INET: u32 = 2;
const AF_INET6: u32 = 10;

/// Looks at one thing that happened to a socket.
#[inline(always)]
pub fn watch(context: &SockOpsContext) {
    match context.op() {
        BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB => {
            accept(context);
        }
        // With TCP Fast Open a connection is accepted before its handshake completes.
        BPF_SOCK_OPS_STATE_CB if context.arg(1) == BPF_TCP_ESTABLISHED => {
            establish(context);
        }
        BPF_SOCK_OPS_STATE_CB if context.arg(1) == BPF_TCP_CLOSE => {
            close(context);
        }
        _ => {}
    }
}

/// Counts a connection that a listener of ours has got.
#[inline(always)]
fn accept(context: &SockOpsContext) -> Option<()> {
    let gate = Gate::<true>::open()?;
    let set = gate.set();
    // SAFETY: the context is that of this run.
    let is_ours = set.namespace == 0 || set.namespace == unsafe { bpf_get_netns_cookie(context.ops.cast()) };
    let id = set.listener(context.local_port() as u16).filter(|_| is_ours)?;
    let source = remote_address(context)?;
    let service = set.service_of(id);
    let (mask, _) = service.masks(source);
    let key = OpenKey::new(source.masked(mask), id);
    let mut mark = Mark { key };
    storage(context, &mut mark)?;
    let flags = context.cb_flags() | BPF_SOCK_OPS_STATE_CB_FLAG;
    // What cannot be followed to its end is not counted.
    context.set_cb_flags(flags as i32).ok()?;
    match count(&key) {
        true => cap(&gate, id, service, &key),
        false => watched(|all| all.not_counted += 1),
    }
    Some(())
}

/// Whether there is room for a connection among those that are counted.
#[inline(always)]
fn count(key: &OpenKey) -> bool {
    let changed_ns = clock_ns();
    if OPEN.get_ptr(key).is_none() {
        // Another processor may be first.
        let _ = OPEN.insert(key, &Open { count: 0, changed_ns }, BPF_NOEXIST.into());
    }
    let Some(open) = OPEN.get_ptr_mut(key) else {
        return false;
    };
    // SAFETY: an entry stays readable until this run of the program ends; other processors write it only by words.
    unsafe {
        (&raw mut (*open).changed_ns).write_volatile(changed_ns);
        atomic_xadd::<u64, u64, ORDER>(&raw mut (*open).count, 1);
    }
    true
}

#[inline(always)]
fn cap(gate: &Gate<true>, id: ServiceId, service: &Service, key: &OpenKey) {
    if service.connections != 0 && count_of(key) >= service.connections {
        set_capped(gate, id, true);
    }
}

/// Notes a completed handshake.
#[inline(always)]
fn establish(context: &SockOpsContext) -> Option<()> {
    // SAFETY: the storage of a live socket.
    let id = unsafe { (*mark_of(context)?).key }.service()?;
    let gate = Gate::<true>::open()?;
    let source = remote_address(context)?;
    let service = gate.set().service_of(id);
    let Moment(now_ns) = gate.now();
    let now = gate.secret().ticks(Moment(now_ns));
    watched(|all| all.handshakes += 1);
    complete(&CompletedCells, gate.secret(), id, service, source, now);
    note_completes(&gate, id);
    let entry = if gate.set().has_entries() { gate.entry(gate.class(&source)) } else { Entry::NONE };
    // A trusted source's SYN was not counted among those that wait.
    if !entry.trusts(id) {
        note_arrived(&gate, service, now);
    }
    prove(source, now_ns);
    let is_asked_about = gate.set().asks(id) && !entry.trusts(id) && !entry.allows(id);
    if is_asked_about && !listed::tell(source, id, Moment(now_ns)) {
        watched(|all| all.not_told += 1);
    }
    Some(())
}

/// Notes a source as proven, if there is room for it.
#[inline(always)]
fn prove(source: Address, now_ns: u64) {
    let key = proven_source(source);
    // Again each time: the controller may have made the filter anew without it.
    mark_proven(key);
    if let Some(proven) = PROVEN.get_ptr_mut(&key) {
        // SAFETY: an entry stays readable until this run of the program ends; other processors write it only by words.
        unsafe { (&raw mut (*proven).last_ns).write_volatile(now_ns) };
        return;
    }
    let site = site(source).map(|site| site.words().0);
    if site.is_some_and(|site| !take_place(site)) {
        return watched(|all| all.not_noted_of_site += 1);
    }
    let fresh = Proven { last_ns: now_ns, exchanged_ns: 0 };
    if PROVEN.insert(&key, &fresh, BPF_NOEXIST.into()).is_ok() {
        return;
    }
    if let Some(site) = site {
        give_back(site);
    }
    // Unless another processor was first, there is no room.
    if PROVEN.get_ptr(&key).is_none() {
        watched(|all| all.not_noted += 1);
    }
}

/// Takes one of the places that a /48 has for proven sources; false if none is left.
#[inline(always)]
fn take_place(site: u64) -> bool {
    if PROVEN_OF_SITE.get_ptr(&site).is_none() {
        // Another processor may be first.
        let _ = PROVEN_OF_SITE.insert(&site, &0, BPF_NOEXIST.into());
    }
    let Some(count) = PROVEN_OF_SITE.get_ptr_mut(&site) else {
        return false;
    };
    // SAFETY: an entry stays readable until this run of the program ends; other processors write it only so.
    let is_free = unsafe { atomic_xadd::<u64, u64, TELLING>(count, 1) } < u64::from(PROVEN_PER_SITE);
    if !is_free {
        give_back(site);
    }
    is_free
}

#[inline(always)]
fn give_back(site: u64) {
    if let Some(count) = PROVEN_OF_SITE.get_ptr_mut(&site) {
        // SAFETY: an entry stays readable until this run of the program ends; other processors write it only so.
        unsafe { atomic_xsub::<u64, u64, ORDER>(count, 1) };
    }
}

/// Takes off a connection that is over, and notes whether both sides said something in it.
#[inline(always)]
fn close(context: &SockOpsContext) -> Option<()> {
    let mark = mark_of(context)?;
    // SAFETY: the storage of a live socket, whose changes of state come one after the other. Its program may connect it anew,
    // which is no connection of ours any more.
    let key = unsafe { core::mem::replace(&mut (*mark).key, OpenKey::NOBODY) };
    key.service()?;
    let now_ns = clock_ns();
    if let Some(open) = OPEN.get_ptr_mut(&key) {
        // SAFETY: an entry stays readable until this run of the program ends; other processors write it only by words.
        unsafe {
            (&raw mut (*open).changed_ns).write_volatile(now_ns);
            // The controller may have made the entry anew; below zero it would mean a full source.
            if (&raw const (*open).count).read_volatile() > 0 {
                atomic_xsub::<u64, u64, ORDER>(&raw mut (*open).count, 1);
            }
        }
    }
    // SAFETY: fields of the context of this run.
    let (received, acknowledged) = unsafe { ((*context.ops).bytes_received, (*context.ops).bytes_acked) };
    // The end of a connection counts as a byte of whoever closes it.
    if received > 1 && acknowledged > 1 {
        let proven = PROVEN.get_ptr_mut(&proven_source(remote_address(context)?))?;
        // SAFETY: as above.
        unsafe { (&raw mut (*proven).exchanged_ns).write_volatile(now_ns) };
    }
    Some(())
}

/// The mark of a socket that is counted.
#[inline(always)]
fn mark_of(context: &SockOpsContext) -> Option<*mut Mark> {
    let socket = socket(context)?;
    // SAFETY: the socket is that of the context, and not null.
    let mark = unsafe { bpf_sk_storage_get(marks(), socket.cast(), core::ptr::null_mut(), 0) }.cast::<Mark>();
    (!mark.is_null()).then_some(mark)
}

/// Marks a socket.
#[inline(always)]
fn storage(context: &SockOpsContext, mark: &mut Mark) -> Option<()> {
    let socket = socket(context)?;
    let create = u64::from(BPF_SK_STORAGE_GET_F_CREATE);
    // SAFETY: the socket is that of the context, and not null.
    let made = unsafe { bpf_sk_storage_get(marks(), socket.cast(), core::ptr::from_mut(mark).cast(), create) };
    (!made.is_null()).then_some(())
}

/// The map of marks as the helper wants it.
#[inline(always)]
const fn marks() -> *mut c_void {
    (&raw const MARKS).cast_mut().cast()
}

#[inline(always)]
fn socket(context: &SockOpsContext) -> Option<*mut bpf_sock> {
    // SAFETY: a field of the context of this run.
    let socket = unsafe { (*context.ops).__bindgen_anon_2.sk };
    (!socket.is_null()).then_some(socket)
}

/// The other side's address. Dual-stack listeners show an IPv4 one in its mapped form, which is ours too.
#[inline(always)]
fn remote_address(context: &SockOpsContext) -> Option<Address> {
    match context.family() {
        AF_INET => Some(Address::from_v4(u32::from_be(context.remote_ip4()))),
        AF_INET6 => {
            // SAFETY: fields of the context of this run. Word by word: a copy would compute with the context's pointer.
            let word = |index: usize| unsafe {
                let words = &raw const (*context.ops).remote_ip6;
                u64::from(u32::from_be(words.cast::<u32>().add(index).read_volatile()))
            };
            Some(Address::from_words(word(0) << 32 | word(1), word(2) << 32 | word(3)))
        }
        _ => None,
    }
}

#[inline(always)]
fn watched(change: impl FnOnce(&mut Watched)) {
    if let Some(all) = WATCHED.get_ptr_mut(0) {
        // SAFETY: the element is this processor's own. A softirq can interrupt a system call in between and lose one.
        change(unsafe { &mut *all });
    }
}
