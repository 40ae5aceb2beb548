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

/// The value, with everything the verifier knows of it forgotten: it does not follow a reversal of bytes.
///
/// Where ways through the program meet with different bounds, older verifiers (6.1) check what follows anew
/// for each of them.
#[inline(always)]
pub fn forgotten(value: u64) -> u64 {
    opaque(value.swap_bytes()).swap_bytes()
}
