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

/// Both values. What is made of the second one afterwards is not made before the first one is there: LLVM otherwise
/// begins everything at once, and keeps what it began on the stack.
#[inline(always)]
pub fn in_order(first: u32, second: u32) -> (u32, u32) {
    #[cfg(target_arch = "bpf")]
    {
        let (mut first, mut second) = (u64::from(first), u64::from(second));
        // SAFETY: copies a register onto itself.
        unsafe {
            core::arch::asm!("{0} = {0}", "{1} = {1}", inout(reg) first, inout(reg) second, options(pure, nomem, nostack));
        }
        (first as u32, second as u32)
    }
    #[cfg(not(target_arch = "bpf"))]
    (first, second)
}
