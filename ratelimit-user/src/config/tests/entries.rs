//! What can be wrong with trust, allow and block, with the exact words.

use super::expect;

#[test]
fn contradictions_between_the_lists() {
    let one_of_two = "keep it in one of the two, or give them different services";
    expect(&[
        (
            "trust = [\"192.0.2.0/24\"]\nblock = [\"192.0.2.0/24\"]\n",
            &format!("t.toml:2:10: block[0]: 192.0.2.0/24 stands in block and in trust (line 1)\n    {one_of_two}"),
        ),
        (
            "block = [\"::ffff:192.0.2.1\"]\nallow = [\"192.0.2.1\"]\n",
            &format!("t.toml:2:10: allow[0]: 192.0.2.1/32 stands in allow and in block (line 1)\n    {one_of_two}"),
        ),
        (
            "trust = [\"192.0.2.1\"]\n[[allow]]\nnetwork = \"192.0.2.1\"\nservices = [\"smtp\"]\n",
            &format!("t.toml:3:11: allow[0]: 192.0.2.1/32 stands in allow and in trust (line 1)\n    {one_of_two}"),
        ),
        (
            "allow = [\"2001:db8::/32\"]\nblock = [\"2001:db8:1::/48\"]\n",
            "t.toml:2:10: block[0]: block 2001:db8:1::/48 can never act: it lies inside allow 2001:db8::/32 (line 1)
    remove it from block, or make the network in allow smaller",
        ),
        // The outer one may come later in the file.
        (
            "block = [\"10.1.0.0/16\"]\ntrust = [\"10.0.0.0/8\"]\n",
            "t.toml:1:10: block[0]: block 10.1.0.0/16 can never act: it lies inside trust 10.0.0.0/8 (line 2)
    remove it from block, or make the network in trust smaller",
        ),
    ]);
}

#[test]
fn scopes_name_services() {
    expect(&[
        (
            "block = [{ network = \"192.0.2.1\", services = [\"smtp\", \"smpt\"] }]\n",
            "t.toml:1:55: block[0].services: no service is called \"smpt\"\n    did you mean smtp?",
        ),
        (
            "block = [{ network = \"192.0.2.1\", services = [\"sieve\"] }]\n[services.sieve]\nenabled = false\n",
            "t.toml:1:47: block[0].services: no service is called \"sieve\"
    write one of smtp, submissions, submission, imap, imaps, pop3, pop3s",
        ),
        (
            "block = [{ network = \"192.0.2.1\", services = [] }]\n",
            "t.toml:1:46: block[0].services: an empty list\n    name a service, or leave the key out to mean all of them",
        ),
        (
            "block = [{ network = \"192.0.2.1\", services = [\"smtp\", \"smtp\"] }]\n",
            "t.toml:1:55: block[0].services[1]: \"smtp\" is written twice\n    remove one of the two",
        ),
        (
            "[[trust]]\nnote = \"webmail\"\n",
            "t.toml:1:1: trust[0]: the key network is missing\n    add it, as in network = \"10.0.0.0/8\"",
        ),
    ]);
}
