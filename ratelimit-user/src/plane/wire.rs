//! Values on their way through the map syscalls.

use bytemuck::Pod;

/// A value as a map holds it.
#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
pub struct Wire<T>(pub T);

// SAFETY: `bytemuck::Pod` promises what aya asks for: any bytes are a value, and there is no padding. The
// wrapper is transparent.
unsafe impl<T: Pod> aya::Pod for Wire<T> {}
