//! Addresses from one to another, and the networks that make them up.

/// An address as a number.
pub trait Number: Copy + Ord {
    const FIRST: Self;
    /// Of an address.
    const BITS: u8;

    /// `None` behind the last.
    fn next(self) -> Option<Self>;

    /// `None` before the first.
    fn previous(self) -> Option<Self>;

    /// How far it lies behind `first`; 0 if it lies before it.
    fn behind(self, first: Self) -> Self;

    /// The last of the network of `2^bits` addresses that holds it.
    fn last_of(self, bits: u8) -> Self;

    /// The most bits that a network beginning here may leave to its hosts.
    fn clear_bits(self) -> u8;

    /// The most bits whose every number is at most this one.
    fn full_bits(self) -> u8;
}

macro_rules! number {
    ($number:ty) => {
        impl Number for $number {
            const FIRST: Self = 0;
            const BITS: u8 = Self::BITS as u8;

            fn next(self) -> Option<Self> {
                self.checked_add(1)
            }

            fn previous(self) -> Option<Self> {
                self.checked_sub(1)
            }

            fn behind(self, first: Self) -> Self {
                self.saturating_sub(first)
            }

            fn last_of(self, bits: u8) -> Self {
                self | !Self::MAX.checked_shl(bits.into()).unwrap_or(0)
            }

            fn clear_bits(self) -> u8 {
                self.trailing_zeros() as u8
            }

            fn full_bits(self) -> u8 {
                self.checked_add(1).map_or(Self::BITS, Self::ilog2) as u8
            }
        }
    };
}

number!(u32);
number!(u128);

/// Addresses from `first` to `last`, both among them. `last` is never before `first`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span<A> {
    first: A,
    last: A,
}

/// A network of one family.
pub trait Prefix: Copy + Ord {
    type Number: Number;

    /// Host bits are cleared.
    fn new(address: Self::Number, length: u8) -> Self;

    fn span(self) -> Span<Self::Number>;
}

impl<A: Number> Span<A> {
    /// `None` if the last address is before the first.
    pub fn new(first: A, last: A) -> Option<Self> {
        (first <= last).then_some(Self { first, last })
    }

    /// The addresses of a network that begins at `first` and leaves `host_bits` to its hosts.
    pub fn of(first: A, host_bits: u8) -> Self {
        Self { first, last: first.last_of(host_bits) }
    }

    pub fn first(self) -> A {
        self.first
    }

    pub fn last(self) -> A {
        self.last
    }

    /// One less than there are addresses, which always fits.
    pub fn more(self) -> A {
        self.last.behind(self.first)
    }

    pub fn holds(self, address: A) -> bool {
        (self.first..=self.last).contains(&address)
    }

    /// The fewest networks that make it up, in order.
    pub fn networks<P: Prefix<Number = A>>(self) -> impl Iterator<Item = P> {
        let mut rest = Some(self);
        std::iter::from_fn(move || {
            let span = rest?;
            let bits = span.first.clear_bits().min(span.more().full_bits());
            rest = span.first.last_of(bits).next().and_then(|first| Self::new(first, span.last));
            Some(P::new(span.first, A::BITS - bits))
        })
    }

    /// What is left of it without the holes that meet it, which lie apart and in order.
    pub fn without(self, holes: &[Self]) -> impl Iterator<Item = Self> {
        let begins = [Some(self.first)].into_iter().chain(holes.iter().map(|hole| hole.last.next()));
        let ends = holes.iter().map(|hole| hole.first.previous()).chain([Some(self.last)]);
        begins.zip(ends).filter_map(|(first, last)| Self::new(first?, last?))
    }
}

/// Spans that cover the same addresses and neither meet nor touch one another, in order.
pub fn apart<A: Number>(ascending: impl IntoIterator<Item = Span<A>>) -> Vec<Span<A>> {
    let mut apart: Vec<Span<A>> = Vec::new();
    for span in ascending {
        match apart.last_mut() {
            Some(before) if before.last.next().is_none_or(|next| span.first <= next) => {
                before.last = before.last.max(span.last);
            }
            Some(_) | None => apart.push(span),
        }
    }
    apart
}
