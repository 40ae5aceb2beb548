use super::warnings;

#[test]
fn what_works_but_perhaps_not_as_meant() {
    for (text, said) in [
        ("", ""),
        (
            "[services.smtp]\nnetwork = { rate = \"100/min\", burst = 3000 }\n",
            "t.toml:2:11: services.smtp.network: the network limit 100/min burst 3000 is smaller than the source limit 300/min burst 300
    one source alone can use up what its whole network may: write a larger network limit",
        ),
        (
            "[services.smtp]\nsource = { rate = \"300/min\", burst = 4000 }\n",
            "t.toml:2:10: services.smtp.source: the network limit 3000/min burst 3000 is smaller than the source limit 300/min burst 4000
    one source alone can use up what its whole network may: write a larger network limit",
        ),
        (
            "[services.smtp]\nsource = [{ rate = \"10/s\", burst = 100 }, { rate = \"300/min\", burst = 50 }]\n",
            "t.toml:2:10: services.smtp.source: 10/s burst 100 never acts beside 300/min burst 50
    of two limits let one have the faster rate and the other the larger burst, or remove one",
        ),
        ("[services.smtp]\nsource = [{ rate = \"10/s\", burst = 50 }, { rate = \"1000/h\", burst = 500 }]\n", ""),
        (
            "trust = [\"10.0.0.0/8\", \"::ffff:10.0.0.0/104\"]\n",
            "t.toml:1:24: trust[1]: 10.0.0.0/8 stands in trust already (line 1)\n    remove one of the two",
        ),
        (
            "trust = [\"10.0.0.0/8\"]\nallow = [\"10.1.0.0/16\"]\n",
            "t.toml:2:10: allow[0]: allow 10.1.0.0/16 can never act: it lies inside trust 10.0.0.0/8 (line 1)
    remove it from allow, or make the network in trust smaller",
        ),
        (
            "block = [\"64:ff9b::/96\"]\n",
            "t.toml:1:10: block[0]: 0.0.0.0/0 blocks every IPv4 address that is neither trusted nor allowed
    write a smaller network, or only the services it is meant for",
        ),
    ] {
        assert_eq!(warnings(text), said, "for:\n{text}");
    }
}
