//! Networks against networks: what is left without others, what meets them, how much they cover.

use super::{
    Networks, V4, V6,
    spans::{Number, Prefix, Span, apart},
};
use crate::config::Network;

/// How much networks cover; what lies in several of them counts once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Size {
    pub v4_addresses: u64,
    /// The /64s of which anything is covered: one of them is one line at home or one machine in a rack.
    pub v6_64s: u128,
}

impl Networks {
    /// What these cover and the others do not. A network that meets none of them stays as it is, of another one the
    /// fewest networks are left that make up the rest; none is ever wider than it was.
    #[must_use]
    pub fn without(&self, others: &Self) -> Self {
        self.cut(others, usize::MAX)
    }

    /// The same, unless more than `most` networks are left: a hundred for every single address that is cut out of a
    /// wide network of IPv6.
    #[must_use]
    pub fn without_within(&self, others: &Self, most: usize) -> Option<Self> {
        let left = self.cut(others, most.saturating_add(1));
        (left.len() <= most).then_some(left)
    }

    fn cut(&self, others: &Self, enough: usize) -> Self {
        let v4 = cut(self.v4(), &holes(others.v4()), enough);
        let v6 = cut(self.v6(), &holes(others.v6()), enough);
        Self::new(v4, v6)
    }

    #[must_use]
    pub fn union(&self, others: &Self) -> Self {
        Self::new([self.v4(), others.v4()].concat(), [self.v6(), others.v6()].concat())
    }

    /// Those of these that have an address in common with any of the others.
    pub fn meeting<'a>(&'a self, others: &Self) -> impl Iterator<Item = Network> + use<'a> {
        let v4 = meeting(self.v4(), holes(others.v4())).map(Network::from);
        v4.chain(meeting(self.v6(), holes(others.v6())).map(Network::from))
    }

    pub fn size(&self) -> Size {
        let v4 = holes(self.v4()).into_iter().map(|span| u64::from(span.more()) + 1);
        let in_64s = self.v6().iter().filter_map(|network| Span::new(network.first() >> 64, network.last() >> 64));
        let v6 = apart(in_64s).into_iter().map(|span| span.more() + 1);
        Size { v4_addresses: v4.sum(), v6_64s: v6.sum() }
    }
}

impl Prefix for V4 {
    type Number = u32;

    fn new(address: u32, length: u8) -> Self {
        Self::new(address, length)
    }

    fn span(self) -> Span<u32> {
        Span::of(self.first(), 32 - self.length())
    }
}

impl Prefix for V6 {
    type Number = u128;

    fn new(address: u128, length: u8) -> Self {
        Self::new(address, length)
    }

    fn span(self) -> Span<u128> {
        Span::of(self.first(), 128 - self.length())
    }
}

/// What sorted networks cover, apart and in order.
fn holes<P: Prefix>(networks: &[P]) -> Vec<Span<P::Number>> {
    apart(networks.iter().map(|network| network.span()))
}

/// The holes that meet a span. Spans are asked for by their first address in ascending order, so that those which lie
/// before one are `passed` for good.
fn met<'h, A: Number>(holes: &'h [Span<A>], passed: &mut usize, span: Span<A>) -> &'h [Span<A>] {
    *passed += holes[*passed..].iter().take_while(|hole| hole.last() < span.first()).count();
    let ahead = &holes[*passed..];
    &ahead[..ahead.partition_point(|hole| hole.first() <= span.last())]
}

/// What is left of sorted networks without holes, which lie apart and in order. Stops when it is enough.
fn cut<P: Prefix>(networks: &[P], holes: &[Span<P::Number>], enough: usize) -> Vec<P> {
    let mut left = Vec::with_capacity(networks.len().min(enough));
    let mut passed = 0;
    for network in networks {
        let room = enough - left.len();
        match met(holes, &mut passed, network.span()) {
            [] => left.extend(Some(*network).filter(|_| room > 0)),
            holes => left.extend(network.span().without(holes).flat_map(Span::networks::<P>).take(room)),
        }
    }
    left
}

/// Those of sorted networks that meet a hole.
fn meeting<P: Prefix>(networks: &[P], holes: Vec<Span<P::Number>>) -> impl Iterator<Item = P> {
    let mut passed = 0;
    networks.iter().copied().filter(move |network| !met(&holes, &mut passed, network.span()).is_empty())
}

#[cfg(test)]
mod tests;
