//! The table of cases, row by row.

use std::collections::HashSet;

use ratelimit_common::Reason;
use ratelimit_tests::{
    cases::{self, Case, Expected},
    tables::{HostTables, World},
};

/// What is wrong with a row, if anything.
fn complaint(case: &Case, world: &World, expected: &Expected) -> Option<String> {
    let tables = HostTables::new(world);
    for frame in &case.before {
        let _ = tables.judge(frame).verdict;
    }
    let judged = tables.judge(&case.frame);
    (!expected.is(&judged, world)).then(|| format!("{}: {judged:?} instead of {expected:?}", case.name))
}

#[test]
fn every_case_in_enforce() {
    let cases = cases::all();
    let wrong: Vec<_> = cases.iter().filter_map(|case| complaint(case, &case.world, &case.expected)).collect();
    assert!(wrong.is_empty(), "{} of {} cases:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    println!("{} cases", cases.len());
}

#[test]
fn every_case_in_observe_passes_for_the_same_reason() {
    let complaints = cases::all().into_iter().filter_map(|case| {
        let (world, expected) = case.observed();
        complaint(&case, &world, &expected)
    });
    let wrong: Vec<_> = complaints.collect();
    assert!(wrong.is_empty(), "{} cases:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn every_reason_has_a_case_and_every_case_a_name_of_its_own() {
    let cases = cases::all();
    for reason in Reason::ALL {
        // What comes of a dialogue is in `suspects.rs`, what takes a socket in the gateway tests.
        let is_of_dialogue = matches!(
            reason,
            Reason::Ticketed | Reason::Repeated | Reason::Answered | Reason::RetryRate | Reason::Stray
        );
        let has_case = cases.iter().any(|case| case.expected.reason == *reason);
        assert!(has_case || is_of_dialogue, "no case for {}", reason.label());
    }
    let names: HashSet<_> = cases.iter().map(|case| &case.name).collect();
    assert_eq!(names.len(), cases.len());
}
