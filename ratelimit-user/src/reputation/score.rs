//! From what the zones say of a source to what is done about it, as postscreen's users know it: weights add up, a negative
//! one speaks for the source, and the threshold is inclusive.

use std::{net::Ipv4Addr, time::Instant};

use crate::config::{Listed, Verdict};

/// What one zone says, and how long that is good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opinion {
    /// The place of the zone in the configuration.
    pub zone: u16,
    pub listed: Listed,
    pub until: Instant,
}

/// What follows from all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement {
    pub score: i32,
    pub action: Verdict,
    /// Until when the answers that speak against the source reach the threshold.
    pub until: Instant,
    /// What the zones with a weight said.
    pub because: Vec<(u16, Vec<Ipv4Addr>)>,
}

/// The sum of the weights.
pub fn score(opinions: &[Opinion]) -> i32 {
    sum(opinions.iter().map(|opinion| opinion.listed.weight))
}

/// `None` where the threshold is not reached. Who reaches it only with codes for which nobody is banned is limited.
pub fn judge(opinions: &[Opinion], threshold: i32, action: Verdict) -> Option<Judgement> {
    let score = score(opinions);
    if opinions.is_empty() || score < threshold {
        return None;
    }
    let for_ban = sum(opinions.iter().map(|opinion| opinion.listed.weight_for_ban));
    let action = match action {
        Verdict::Ban if for_ban < threshold => Verdict::Limit,
        Verdict::Note | Verdict::Limit | Verdict::Ban => action,
    };
    let because = opinions.iter().map(|opinion| (opinion.zone, opinion.listed.codes.clone())).collect();
    Some(Judgement { score, action, until: until(opinions, threshold)?, because })
}

/// The moment from which the answers that are still good do not reach the threshold. What speaks for a source counts to the
/// end: that it was heard once must not be held against it.
fn until(opinions: &[Opinion], threshold: i32) -> Option<Instant> {
    let mut ends: Vec<Instant> = opinions.iter().map(|opinion| opinion.until).collect();
    ends.sort_unstable();
    let reaches = |end: &Instant| {
        let good = opinions.iter().filter(|opinion| opinion.until > *end || opinion.listed.weight < 0);
        sum(good.map(|opinion| opinion.listed.weight)) >= threshold
    };
    let last = ends.last().copied();
    ends.into_iter().find(|end| !reaches(end)).or(last)
}

fn sum(weights: impl Iterator<Item = i32>) -> i32 {
    weights.fold(0, i32::saturating_add)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn opinion(zone: u16, weight: i32, start: Instant, seconds: u64) -> Opinion {
        let listed = Listed { weight, weight_for_ban: weight, codes: vec![Ipv4Addr::new(127, 0, 0, 2)] };
        Opinion { zone, listed, until: start + Duration::from_secs(seconds) }
    }

    #[test]
    fn the_threshold_is_inclusive_and_negative_weights_speak_for_a_source() {
        let start = Instant::now();
        let judge = |weights: &[i32]| {
            let opinions: Vec<_> = weights.iter().map(|weight| opinion(0, *weight, start, 60)).collect();
            judge(&opinions, 3, Verdict::Limit).map(|judgement| judgement.score)
        };
        assert_eq!(judge(&[]), None);
        assert_eq!(judge(&[2]), None);
        assert_eq!(judge(&[3]), Some(3));
        assert_eq!(judge(&[2, 1]), Some(3));
        assert_eq!(judge(&[3, -1]), None);
        assert_eq!(judge(&[5, -2]), Some(3));
        assert_eq!(judge(&[i32::MAX, i32::MAX]), Some(i32::MAX));
    }

    /// The examples of `postscreen_dnsbl_sites` and `postscreen_dnsbl_threshold` in postconf(5).
    #[test]
    fn sites_of_postscreens_manual_score_as_it_says() {
        let start = Instant::now();
        let site = |name: &str, codes: &str| {
            let text =
                format!("[[reputation.dnsbl]]\nname = \"{name}\"\nzone = \"{name}.example\"\ncodes = [\"{codes}\"]\n");
            let config = crate::config::Config::parse(&text, "t.toml").unwrap().config;
            config.reputation.dnsbl.into_iter().next().unwrap()
        };
        let acts = |sites: &[(&crate::config::Dnsbl, &str)], threshold: i32| {
            let opinions = sites.iter().zip(0u16..).filter_map(|((site, answers), zone)| {
                let records: Vec<Ipv4Addr> = answers.split_whitespace().map(|answer| answer.parse().unwrap()).collect();
                match site.read(&records) {
                    crate::config::Reading::Listed(listed) => {
                        Some(Opinion { zone, listed, until: start + Duration::from_secs(60) })
                    }
                    crate::config::Reading::Unlisted | crate::config::Reading::Faulty(_) => None,
                }
            });
            judge(&opinions.collect::<Vec<_>>(), threshold, Verdict::Limit).is_some()
        };
        // One list that is believed alone, and two that are believed only together: threshold 2.
        let any = "127.[0..255].[0..255].[0..255]";
        let sure = site("com", &format!("{any}*2"));
        let (net, org) = (site("net", any), site("org", any));
        assert!(acts(&[(&sure, "127.0.0.2"), (&net, ""), (&org, "")], 2));
        assert!(!acts(&[(&sure, ""), (&net, "127.0.0.2"), (&org, "")], 2));
        assert!(acts(&[(&sure, ""), (&net, "127.0.0.2"), (&org, "127.0.0.9")], 2));
        // Only answers with 127.0.0.4 count.
        let filtered = site("filtered", "127.0.0.4");
        assert!(acts(&[(&filtered, "127.0.0.4")], 1) && acts(&[(&filtered, "127.0.0.2 127.0.0.4")], 1));
        assert!(!acts(&[(&filtered, "127.0.0.2")], 1));
        // A pattern counts once, however many records match it, and a list that allows has a negative weight.
        let ranges = site("ranges", "127.0.0.[1;3..5]*2");
        let allowing = site("allowing", "127.0.[0..255].[1..3]*-2");
        assert!(acts(&[(&ranges, "127.0.0.1 127.0.0.3 127.0.0.5")], 2));
        assert!(!acts(&[(&ranges, "127.0.0.1 127.0.0.3 127.0.0.5")], 3));
        assert!(!acts(&[(&ranges, "127.0.0.4"), (&allowing, "127.0.5.1")], 1));
    }

    #[test]
    fn it_holds_as_long_as_the_answers_that_reach_the_threshold() {
        let start = Instant::now();
        let until = |opinions: &[(i32, u64)]| {
            let opinions: Vec<_> =
                opinions.iter().map(|(weight, seconds)| opinion(0, *weight, start, *seconds)).collect();
            judge(&opinions, 3, Verdict::Limit).map(|judgement| (judgement.until - start).as_secs())
        };
        assert_eq!(until(&[(3, 60)]), Some(60));
        assert_eq!(until(&[(3, 60), (3, 300)]), Some(300));
        assert_eq!(until(&[(2, 60), (1, 300)]), Some(60));
        assert_eq!(until(&[(4, 300), (-1, 60)]), Some(300));
        assert_eq!(until(&[(4, 300), (3, 100), (-2, 60)]), Some(100));
    }

    #[test]
    fn nobody_is_banned_for_codes_that_ban_nobody() {
        let start = Instant::now();
        let mut policy = opinion(0, 3, start, 60);
        policy.listed.weight_for_ban = 0;
        let action = |opinions: &[Opinion]| judge(opinions, 3, Verdict::Ban).map(|judgement| judgement.action);
        assert_eq!(action(std::slice::from_ref(&policy)), Some(Verdict::Limit));
        assert_eq!(action(&[policy, opinion(1, 3, start, 60)]), Some(Verdict::Ban));
    }
}
