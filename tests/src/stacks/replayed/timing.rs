//! How the SYNs of operating systems look, and when they are repeated.

use std::time::Duration;

const MSS_V4: u16 = 1460;
const MSS_V6: u16 = 1440;

const END: u8 = 0;
const NOP: u8 = 1;
const SACK_PERMITTED: [u8; 2] = [4, 2];

/// Of Linux: two ticks of a clock of 250 Hz.
const AT_ONCE: Duration = Duration::from_millis(8);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Timing {
    /// Since 6.5: a second between the first six, then twice as long each time. Repeats its first SYN at once when that
    /// was answered wrongly (`tcp_rcv_synsent_state_process`).
    Linux65,
    /// From 2.6.39 on: 1, 2, 4 s and so on. Waits for its timer, as before 5.10, whatever comes.
    LinuxOld,
    /// 3, 6, 12 s. Whether it repeats its SYN at once after a wrong answer is not known: it waits for its timer.
    Windows,
    /// macOS and iOS: a second between the first six, then twice as long each time. This is an assumption, and so is that it
    /// waits for its timer after a wrong answer.
    MacOs,
}

impl Timing {
    pub const ALL: [Self; 4] = [Self::Linux65, Self::LinuxOld, Self::Windows, Self::MacOs];

    /// From each SYN to the next one; the client gives up after the last.
    pub fn gaps(self) -> &'static [Duration] {
        const fn seconds<const N: usize>(gaps: [u64; N]) -> [Duration; N] {
            let mut durations = [Duration::ZERO; N];
            let mut index = 0;
            while index < N {
                durations[index] = Duration::from_secs(gaps[index]);
                index += 1;
            }
            durations
        }
        const LINEAR: [Duration; 10] = seconds([1, 1, 1, 1, 1, 2, 4, 8, 16, 32]);
        const DOUBLING: [Duration; 7] = seconds([1, 2, 4, 8, 16, 32, 64]);
        const SLOW: [Duration; 3] = seconds([3, 6, 12]);
        match self {
            Self::Linux65 | Self::MacOs => &LINEAR,
            Self::LinuxOld => &DOUBLING,
            Self::Windows => &SLOW,
        }
    }

    /// How soon the first SYN is repeated after a wrong answer, where that is not left to the timer.
    pub(super) fn after_challenge(self) -> Option<Duration> {
        match self {
            Self::Linux65 => Some(AT_ONCE),
            Self::LinuxOld | Self::Windows | Self::MacOs => None,
        }
    }

    pub(super) fn has_timestamps(self) -> bool {
        match self {
            Self::Linux65 | Self::LinuxOld | Self::MacOs => true,
            Self::Windows => false,
        }
    }

    pub(super) fn window(self) -> u16 {
        match self {
            Self::Linux65 | Self::Windows => 64_240,
            Self::LinuxOld => 29_200,
            Self::MacOs => 65_535,
        }
    }

    /// In the order in which the system writes them.
    pub(super) fn options(self, is_v6: bool, clock: u32) -> Vec<u8> {
        let [high, low] = if is_v6 { MSS_V6 } else { MSS_V4 }.to_be_bytes();
        let mss = [2, 4, high, low];
        let scale = |shift| [NOP, 3, 3, shift];
        let timestamp = &timestamps(clock, 0)[2..];
        match self {
            Self::Linux65 | Self::LinuxOld => [&mss[..], &SACK_PERMITTED, timestamp, &scale(7)].concat(),
            Self::Windows => [&mss[..], &scale(8), &[NOP, NOP], &SACK_PERMITTED].concat(),
            Self::MacOs => [&mss[..], &scale(6), &[NOP, NOP], timestamp, &SACK_PERMITTED, &[END, END]].concat(),
        }
    }
}

/// The option as segments carry it, aligned.
pub(super) fn timestamps(value: u32, echo: u32) -> Vec<u8> {
    [&[NOP, NOP, 8, 10][..], &value.to_be_bytes(), &echo.to_be_bytes()].concat()
}
