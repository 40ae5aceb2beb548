//! Bounds that survive the optimiser.

/// The value, unknown to the optimiser, so that a mask applied to it afterwards is not optimised away.
///
/// LLVM drops a mask it can prove redundant (the upper bits of a 16-bit load), but the kernel's verifier
/// does not follow every such proof and then refuses the access.
#[inline(always)]
pub fn opaque(value: u64) -> u64 {
    #[cfg(target_arch = "bpf")]
    {
        let mut value = value;
        // SAFETY: copies a register onto itself.
        unsafe { core::arch::asm!("{0} = {0}", inout(reg) value, options(pure, nomem, nostack)) };
        value
    }
    #[cfg(not(target_arch = "bpf"))]
    value
}
