//! Which place each service has in the tables, and which cells each of its limits.
//!
//! Counters and cells belong to places, not to names, so a service keeps its place as long as it exists.

use ratelimit_common::{
    SERVICES, ServiceId, Set,
    map::{CELLS_PER_LINE, LINE_BYTES},
    suspicion::{WHOLE, cell_of},
};

use crate::{
    collision,
    config::{Config, Level, Limit, MOST_SERVICES, Service},
};

const _: () = assert!(SERVICES == MOST_SERVICES);

/// Shares of a service's cells. The source level is the one that fills first at every default limit, by an
/// order of magnitude on smtp; a smaller share for networks would make them the narrow place on sieve.
const SOURCE_SHARE: u64 = 7;
const NETWORK_SHARE: u64 = 1;

/// Cells that follow each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Region {
    pub first_cell: u32,
    pub cells: u32,
}

/// The place of one service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub name: String,
    pub id: ServiceId,
    /// Short and long window of a source, then of a network; empty where there is no such limit.
    pub regions: [Region; 4],
    /// The cell of the whole service.
    pub whole_cell: u32,
}

/// The places of all services.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Size of the cell table.
    pub lines: u32,
    pub places: Vec<Place>,
}

impl Layout {
    /// Gives every service a place: the one it has in `before`, else a free one.
    pub fn plan(config: &Config, before: Option<&Set>) -> Self {
        let lines = u32::try_from(config.memory.bytes() / LINE_BYTES as u64).unwrap_or(u32::MAX);
        let ids = assign(&config.services, before);
        let mut in_order: Vec<_> = config.services.iter().zip(ids).collect();
        in_order.sort_by_key(|(_, id)| *id);

        // A line for each service as a whole, so that services do not share a cache line.
        let mut next_line = SERVICES as u64;
        let each = (u64::from(lines).saturating_sub(next_line)) / in_order.len().max(1) as u64;
        let places = in_order
            .into_iter()
            .map(|(service, id)| {
                let place = Place {
                    name: service.name.clone(),
                    id,
                    regions: divide(service, next_line, each),
                    whole_cell: cell_of(id, WHOLE),
                };
                next_line += each;
                place
            })
            .collect();
        Self { lines, places }
    }

    pub fn place(&self, service: &str) -> Option<&Place> {
        self.places.iter().find(|place| place.name == service)
    }

    /// The services for which something holds, one bit each.
    pub fn bits_of(&self, config: &Config, holds: impl Fn(&Service) -> bool) -> u16 {
        let services = config.services.iter().filter(|service| holds(service));
        services.filter_map(|service| self.place(&service.name)).fold(0, |all, place| all | place.id.bit())
    }

    /// Every limit of a service that has cells, with those cells as the collision formula takes them.
    pub fn crowded<'s>(&self, service: &'s Service) -> Vec<(Level, &'s Limit, collision::Region)> {
        let Some(place) = self.place(&service.name) else {
            return Vec::new();
        };
        let (source, network) = place.regions.split_at(2);
        let with_cells = |level, limits: &'s [Limit], regions: &[Region]| {
            let pairs = limits.iter().zip(regions).map(move |(limit, region)| {
                let cells = region.cells.into();
                let (rate_per_s, burst) = (limit.rate.per_second(), limit.burst.get().into());
                (level, limit, collision::Region { cells, rate_per_s, burst })
            });
            pairs.collect::<Vec<_>>()
        };
        let mut all = with_cells(Level::Source, &service.source, source);
        all.extend(with_cells(Level::Network, &service.network, network));
        all
    }

    /// Whether the cells of a set can be kept: the same services with the same regions.
    pub fn fits(&self, set: &Set) -> bool {
        set.services().count() == self.places.len()
            && self.places.iter().all(|place| {
                let service = set.service_at(place.id);
                let same = |(limit, region): (&ratelimit_common::Limit, &Region)| {
                    limit.first_cell == region.first_cell && limit.cells == region.cells
                };
                service.name() == place.name && service.limits.iter().zip(&place.regions).all(same)
            })
    }
}

fn assign(services: &[Service], before: Option<&Set>) -> Vec<ServiceId> {
    let place_before = |name: &str| before?.services().find(|(_, service)| service.name() == name).map(|(id, _)| id);
    let kept: Vec<_> = services.iter().map(|service| place_before(&service.name)).collect();
    let mut free = (0..SERVICES).filter_map(ServiceId::new).filter(|id| !kept.contains(&Some(*id)));
    // The configuration allows no more services than there are places, so a free one is always found.
    kept.iter().filter_map(|id| id.or_else(|| free.next())).collect()
}

fn divide(service: &Service, first_line: u64, lines: u64) -> [Region; 4] {
    let shares = [
        service.source.first().map_or(0, |_| SOURCE_SHARE),
        service.source.get(1).map_or(0, |_| SOURCE_SHARE),
        service.network.first().map_or(0, |_| NETWORK_SHARE),
        service.network.get(1).map_or(0, |_| NETWORK_SHARE),
    ];
    let total: u64 = shares.iter().sum();
    let mut line = first_line;
    shares.map(|share| {
        let own = (lines * share).checked_div(total).unwrap_or(0);
        let first = line;
        line += own;
        match own {
            0 => Region::default(),
            _ => Region { first_cell: cells(first), cells: cells(own) },
        }
    })
}

fn cells(lines: u64) -> u32 {
    u32::try_from(lines * CELLS_PER_LINE as u64).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regions_do_not_overlap_and_stay_inside_the_table() {
        let layout = Layout::plan(&Config::default(), None);
        assert_eq!(layout.places.len(), 8);
        let mut regions: Vec<Region> =
            layout.places.iter().flat_map(|place| place.regions).filter(|region| region.cells > 0).collect();
        regions.sort_by_key(|region| region.first_cell);
        assert_eq!(regions.len(), 16);
        assert!(regions[0].first_cell >= (SERVICES * CELLS_PER_LINE) as u32);
        for pair in regions.windows(2) {
            assert!(pair[0].first_cell + pair[0].cells <= pair[1].first_cell);
        }
        let last = regions[regions.len() - 1];
        assert!(last.first_cell + last.cells <= layout.lines * CELLS_PER_LINE as u32);
    }

    #[test]
    fn smtp_gets_the_cells_the_capacity_is_computed_for() {
        let layout = Layout::plan(&Config::default(), None);
        let smtp = layout.place("smtp").unwrap();
        assert!(smtp.regions[0].cells > 900_000, "{:?}", smtp.regions);
        assert!(smtp.regions[2].cells > 130_000, "{:?}", smtp.regions);
        assert_eq!(smtp.regions[1], Region::default());
    }

    #[test]
    fn a_service_that_goes_leaves_the_others_in_their_places() {
        let config = Config::default();
        let mut set = bytemuck::zeroed_box::<Set>();
        for place in Layout::plan(&config, None).places {
            let limits = place.regions.map(|region| ratelimit_common::Limit {
                increment: 1,
                tolerance: 1,
                first_cell: region.first_cell,
                cells: region.cells,
            });
            let none = ratelimit_common::Limit::NONE;
            let masks = [ratelimit_common::Address::UNSPECIFIED; 4];
            set.put_service(place.id, ratelimit_common::Service::new(&place.name, limits, none, 0, masks), &[]);
        }
        assert!(Layout::plan(&config, Some(&set)).fits(&set));

        let mut fewer = config.clone();
        fewer.services.retain(|service| service.name != "submission");
        let layout = Layout::plan(&fewer, Some(&set));
        assert!(!layout.fits(&set));
        for (id, service) in set.services().filter(|(_, service)| service.name() != "submission") {
            assert_eq!(layout.place(service.name()).map(|place| place.id), Some(id));
        }
    }
}
