//! Tables of networks in memory that the kernel shares: filled before anybody sees them, looked at while they are in use.

use aya::maps::{MapData, MapError, MapType};
use ratelimit_common::{
    lookup::{Line, Lines},
    map::{INNER_MAP, MMAPABLE},
};

use super::shared::{Access, Shared};
use crate::lists::table::Table;

/// Makes a map of a table and fills it. Nothing refers to the map but who holds it.
pub fn make(table: &Table) -> Result<MapData, MapError> {
    let lines = table.lines().max(1);
    let flags = (MMAPABLE | INNER_MAP) as u32;
    let shape = aya_obj::Map::new_from_params(
        MapType::Array as u32,
        size_of::<u32>() as u32,
        size_of::<Line>() as u32,
        lines,
        flags,
    );
    let map = MapData::create(shape, "lists", None)?;
    let mut shared = Shared::map(&map, lines as usize, Access::Write).map_err(MapError::IoError)?;
    // SAFETY: the map was just made and is nobody else's, and any bytes are a line.
    table.fill(unsafe { shared.all_mut() });
    Ok(map)
}

/// The lines of a table, mapped into memory.
#[derive(Debug)]
pub struct SharedLines(Shared<Line>);

impl SharedLines {
    /// Looks at a table that is in use. Nobody writes it any more: a new one takes its place.
    pub fn open(map: &MapData) -> Result<Self, MapError> {
        let lines = map.info()?.max_entries();
        Shared::map(map, lines as usize, Access::Read).map(Self).map_err(MapError::IoError)
    }
}

impl Lines for SharedLines {
    fn line(&self, index: u32) -> Option<&Line> {
        // SAFETY: nobody writes a table that is in use, and any bytes are a line.
        unsafe { self.0.get(index as usize) }
    }
}
