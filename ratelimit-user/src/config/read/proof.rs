use super::node::{Fields, Node};
use super::{Reader, quoted};
use crate::config::grammar::{GrammarError, Rate};
use crate::config::problem::ValueProblem;
use crate::config::proof::{
    Challenge, FASTEST_CHALLENGE, FASTEST_RETRY, FEWEST_PROVEN_SOURCES, MOST_PROVEN_SOURCES, Namespaces, Proof,
    SLOWEST_RATE,
};

const KEYS: &[&str] = &["challenge", "challenge_rate", "retry_rate", "sources", "namespaces"];

impl Reader {
    pub fn proof(&mut self, node: &Node<'_>, proof: &mut Proof) {
        let Some(fields) = self.fields(node, KEYS, "[proof]") else { return };
        if let Some(challenge) = fields.get("challenge").and_then(|node| self.challenge(node)) {
            proof.challenge = challenge;
        }
        for (key, example, fastest, rate) in [
            ("challenge_rate", "challenge_rate = \"2000000/s\"", FASTEST_CHALLENGE, &mut proof.challenge_rate),
            ("retry_rate", "retry_rate = \"200/s\"", FASTEST_RETRY, &mut proof.retry_rate),
        ] {
            let read = fields.get(key).and_then(|node| self.rate_up_to(fastest, node, example));
            *rate = read.unwrap_or(*rate);
        }
        self.proven_sources(&fields, &mut proof.sources);
        if let Some(namespaces) = fields.get("namespaces").and_then(|node| self.namespaces(node)) {
            proof.namespaces = namespaces;
        }
    }

    fn challenge(&mut self, node: &Node<'_>) -> Option<Challenge> {
        let text = self.text(node, "challenge = \"reset\"")?;
        let challenge = Challenge::ALL.into_iter().find(|challenge| challenge.name() == text);
        if challenge.is_none() {
            self.problem(node, ValueProblem::Challenge { value: quoted(text) });
        }
        challenge
    }

    fn rate_up_to(&mut self, fastest: Rate, node: &Node<'_>, example: &'static str) -> Option<Rate> {
        let text = self.text(node, example)?;
        let value = quoted(text);
        let (lowest, highest) = (SLOWEST_RATE.to_string(), fastest.to_string());
        let problem = match text.parse::<Rate>() {
            Ok(rate) if (SLOWEST_RATE..=fastest).contains(&rate) => return Some(rate),
            // What a limit may be is more than what works here.
            Ok(_) | Err(GrammarError::RateZero | GrammarError::RateTooLarge) => {
                ValueProblem::OutOfRange { value, lowest, highest }
            }
            Err(error) => ValueProblem::Grammar { value, error },
        };
        self.problem(node, problem);
        None
    }

    fn proven_sources(&mut self, fields: &Fields<'_>, sources: &mut u32) {
        let range = u64::from(FEWEST_PROVEN_SOURCES)..=u64::from(MOST_PROVEN_SOURCES);
        let read = fields.get("sources").and_then(|node| self.integer(node, range, "sources = 262144"));
        *sources = read.and_then(|read| u32::try_from(read).ok()).unwrap_or(*sources);
    }

    fn namespaces(&mut self, node: &Node<'_>) -> Option<Namespaces> {
        let text = self.text(node, "namespaces = \"host\"")?;
        let namespaces = Namespaces::ALL.into_iter().find(|namespaces| namespaces.name() == text);
        if namespaces.is_none() {
            self.problem(node, ValueProblem::Namespaces { value: quoted(text) });
        }
        namespaces
    }
}
