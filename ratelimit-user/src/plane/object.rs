//! The gate's object, embedded at build time.

use super::PlaneError;

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/ratelimit.o"));

/// The bytes of the object.
pub fn bytes() -> Result<&'static [u8], PlaneError> {
    match OBJECT {
        [] => Err(PlaneError::NoObject),
        object => Ok(object),
    }
}
