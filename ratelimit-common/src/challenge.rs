//! How a suspect source shows that it is alive, and what is remembered of it meanwhile.
//!
//! *The challenge* is an acknowledgement whose number is a cookie and not the one that the SYN asks for. Whoever sent
//! the SYN answers with a reset that carries that number (RFC 9293, section 3.10.7.3), and sends its SYN again. Nothing is
//! remembered for the cookie.
//!
//! *The answer* says only that the address is alive: any host answers so, also one in whose name somebody else sent the SYN.
//! It earns a ticket for this 4-tuple, good for [`TICKET_NS`].
//!
//! *A repetition* of the SYN, with the same sequence number, [`REPEATED_AFTER_NS`] to [`REPEATED_BEFORE_NS`] later, is the answer of
//! those whose firewall swallows the challenge. For that the first SYN is remembered, in the place of the ticket.
//!
//! Places are fixed and chosen by SipHash under the secret. Whoever comes to an occupied one takes it, except that a SYN never
//! takes that of a good ticket. Who lost his place is challenged once more.

use crate::{
    limit::{Moment, TICK_SHIFT, Ticks},
    parse::Parsed,
    secret::Secret,
};

/// Places for tickets and first SYNs: 4 MiB.
pub const SLOTS: usize = 1 << 19;
/// Longer than the gap before any stack's second SYN (3 s), so that a ticket meets it.
pub const TICKET_NS: u64 = 8_000_000_000;
/// Every stack waits a second or longer before it repeats a SYN.
pub const REPEATED_AFTER_NS: u64 = 500_000_000;
/// The longest gap between two SYNs of a stack.
pub const REPEATED_BEFORE_NS: u64 = 64_000_000_000;
/// A cookie is good in the slot of time it was made in and in the next one: 69 to 137 s.
const COOKIE_SLOT_SHIFT: u32 = 36;

const IS_TICKET: u64 = 1 << 63;
const FINGERPRINT: u64 = 0x7fff_ffff;

/// A connection's addresses and ports, hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tuple(u64);

impl Tuple {
    #[inline(always)]
    pub const fn of(secret: &Secret, parsed: &Parsed) -> Self {
        Self(secret.hash_connection(parsed.source, parsed.destination, parsed.source_port, parsed.port))
    }

    #[inline(always)]
    pub const fn from_hash(hash: u64) -> Self {
        Self(hash)
    }

    /// Where something about it is remembered, below [`SLOTS`].
    #[inline(always)]
    pub const fn place(self) -> u32 {
        self.0 as u32 % SLOTS as u32
    }

    /// The acknowledgement number that asks it to show itself.
    #[inline(always)]
    pub const fn cookie(self, Moment(now_ns): Moment) -> u32 {
        self.cookie_of(now_ns >> COOKIE_SLOT_SHIFT)
    }

    /// Whether the sequence number of a reset is a cookie of late. A guess is one with a chance of 1 in 2^31.
    #[inline(always)]
    pub const fn is_answered_by(self, sequence: u32, Moment(now_ns): Moment) -> bool {
        let slot = now_ns >> COOKIE_SLOT_SHIFT;
        self.cookie_of(slot) == sequence || self.cookie_of(slot.wrapping_sub(1)) == sequence
    }

    /// The hash is secret, so what is told of it needs no key of its own.
    #[inline(always)]
    const fn cookie_of(self, slot: u64) -> u32 {
        let mixed = (self.0 ^ slot.wrapping_mul(0x9e37_79b9_7f4a_7c15)).wrapping_mul(0xd6e8_feb8_6659_fd93);
        ((mixed ^ (mixed >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u32
    }

    #[inline(always)]
    const fn fingerprint(self) -> u64 {
        (self.0 >> 32) & FINGERPRINT
    }

    #[inline(always)]
    const fn fingerprint_with(self, sequence: u32) -> u64 {
        ((self.0 >> 32) ^ (sequence as u64).wrapping_mul(0x9e37_79b1)) & FINGERPRINT
    }
}

/// What a place holds: a ticket or a first SYN, of which 4-tuple, and since when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot(pub u64);

/// What a place says about a SYN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// Nothing, or what is over.
    Nothing,
    /// A ticket of another one, still good.
    Taken,
    /// This SYN, but too short a time ago.
    TooEarly,
    /// This SYN, and it is time for its repetition.
    Repeated,
    /// A ticket for it.
    Ticket,
}

impl Slot {
    pub const EMPTY: Self = Self(0);

    #[inline(always)]
    pub const fn ticket(tuple: Tuple, now: Ticks) -> Self {
        Self(IS_TICKET | tuple.fingerprint() << 32 | now.0 as u64)
    }

    #[inline(always)]
    pub const fn first_syn(tuple: Tuple, sequence: u32, now: Ticks) -> Self {
        Self(tuple.fingerprint_with(sequence) << 32 | now.0 as u64)
    }

    pub const fn is_good_ticket(self, now: Ticks) -> bool {
        self.0 & IS_TICKET != 0 && now.0.wrapping_sub(self.0 as u32) as u64 <= TICKET_NS >> TICK_SHIFT
    }

    /// What it says about a SYN.
    #[inline(always)]
    pub const fn seen(self, tuple: Tuple, sequence: u32, now: Ticks) -> Seen {
        let age = now.0.wrapping_sub(self.0 as u32) as u64;
        let fingerprint = (self.0 >> 32) & FINGERPRINT;
        if self.0 & IS_TICKET != 0 {
            return match (age <= TICKET_NS >> TICK_SHIFT, fingerprint == tuple.fingerprint()) {
                (true, true) => Seen::Ticket,
                (true, false) => Seen::Taken,
                (false, _) => Seen::Nothing,
            };
        }
        if self.0 == 0 || fingerprint != tuple.fingerprint_with(sequence) || age > REPEATED_BEFORE_NS >> TICK_SHIFT {
            return Seen::Nothing;
        }
        if age < REPEATED_AFTER_NS >> TICK_SHIFT { Seen::TooEarly } else { Seen::Repeated }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::Address;

    const SECOND: u64 = 1_000_000_000;

    fn tuple(port: u16) -> Tuple {
        let (source, destination) = (Address::from_v4(0xc000_0207), Address::from_v4(0xc000_0201));
        let mut parsed = Parsed::connection(source, destination, 25);
        parsed.source_port = port;
        Tuple::of(&Secret::new([1, 2], 0), &parsed)
    }

    fn ticks(ns: u64) -> Ticks {
        Moment(ns).ticks_since(0)
    }

    #[test]
    fn a_cookie_is_good_for_one_slot_more_and_for_its_own_connection_alone() {
        let made = 10 << COOKIE_SLOT_SHIFT;
        let cookie = tuple(1).cookie(Moment(made));
        let good = |after: u64| tuple(1).is_answered_by(cookie, Moment(made + after));
        assert!(good(0) && good(60 * SECOND) && good(137 * SECOND));
        assert!(!good(138 * SECOND));
        assert!(!tuple(2).is_answered_by(cookie, Moment(made)));
        assert!(!tuple(1).is_answered_by(cookie ^ 1, Moment(made)));
    }

    #[test]
    fn a_ticket_is_for_one_connection_and_ends() {
        let now = 100 * SECOND;
        let slot = Slot::ticket(tuple(1), ticks(now));
        let seen = |of: u16, after: u64| slot.seen(tuple(of), 7, ticks(now + after));
        assert_eq!(seen(1, 0), Seen::Ticket);
        assert_eq!(seen(1, 7 * SECOND), Seen::Ticket);
        assert_eq!(seen(1, 9 * SECOND), Seen::Nothing);
        assert_eq!(seen(2, 0), Seen::Taken);
        assert_eq!(seen(2, 9 * SECOND), Seen::Nothing);
    }

    #[test]
    fn a_repetition_is_the_same_syn_after_half_a_second() {
        let now = 100 * SECOND;
        let slot = Slot::first_syn(tuple(1), 7, ticks(now));
        let seen = |of: u16, sequence, after: u64| slot.seen(tuple(of), sequence, ticks(now + after));
        assert_eq!(seen(1, 7, SECOND / 10), Seen::TooEarly);
        assert_eq!(seen(1, 7, SECOND), Seen::Repeated);
        assert_eq!(seen(1, 7, 63 * SECOND), Seen::Repeated);
        assert_eq!(seen(1, 7, 65 * SECOND), Seen::Nothing);
        assert_eq!(seen(1, 8, SECOND), Seen::Nothing);
        assert_eq!(seen(2, 7, SECOND), Seen::Nothing);
        assert_eq!(Slot::EMPTY.seen(tuple(1), 7, ticks(SECOND)), Seen::Nothing);
    }
}
