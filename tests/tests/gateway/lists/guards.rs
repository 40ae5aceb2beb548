//! What no list may block: the machine and its surroundings, private space, whom the configuration trusts, everybody.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use ratelimit_common::Reason;
use ratelimit_tests::feed::Serve;
use ratelimit_tests::gateway::{Site, eventually, ip};
use ratelimit_tests::lists::{
    ENFORCE, Files, Published, SMTP, SOON, await_entries, check, next, show, table, url, warns_of_nothing,
};
use ratelimit_user::api::ListView;
use ratelimit_user::config::{Config, Network};
use ratelimit_user::machine::Machine;

/// Why an entry was refused or cut.
fn why<'a>(shown: &'a ListView, network: &str) -> Result<&'a str> {
    let refusal = shown.refused.shown.iter().find(|refusal| refusal.network.to_string() == network);
    Ok(&refusal.with_context(|| format!("{network} is not among {:?}", shown.refused))?.why)
}

const BOGONS: &str = "\
10.0.0.0/8
127.0.0.0/8
192.168.0.0/16
224.0.0.0/3
fc00::/7
fe80::/64
2001:db8::/32
8.8.8.8
2a00:1450::8
";

#[test]
fn bogons_in_a_feed_leave_the_lan_alone() -> Result<()> {
    let published = Published::start(&format!("{ENFORCE}{}", table("bogons", &url("/bogons"), "")), |http, _| {
        http.set("/bogons", Serve::Body(BOGONS.as_bytes().to_vec()));
    })?;
    let site = &published.site;
    await_entries(site, "bogons", 9)?;
    check(
        site,
        &["8.8.8.8", "2a00:1450::8"],
        &["10.0.0.9", "192.168.7.7", "8.8.8.9", "2001:db8:1:1::9", "2a00:1450::9"],
    )?;
    let shown = show(site, "bogons")?;
    ensure!(shown.networks == 2 && shown.refused.count == 7, "{shown:?}");
    for (network, says) in [
        ("10.0.0.0/8", "lies in 10.0.0.0/8: private"),
        ("127.0.0.0/8", "loopback"),
        ("192.168.0.0/16", "private"),
        ("224.0.0.0/3", "wider than /8"),
        ("fc00::/7", "wider than /19"),
        ("fe80::/64", "link-local"),
        ("2001:db8::/32", "documentation"),
    ] {
        let why = why(&shown, network)?;
        ensure!(why.contains(says), "{network}: {why}");
    }
    let text = site.run("list show bogons")?;
    ensure!(text.contains("7 refused or cut") && text.contains("192.168.0.0/16  lies in"), "{text}");
    ensure!(site.controller.log().contains("an entry was refused or cut"), "the log says nothing");

    // Where the list may hold it, what is there already is read anew, without a word from the publisher.
    let config = format!("{ENFORCE}{}", table("bogons", &url("/bogons"), "private = true"));
    site.controller.write_config(&config)?;
    site.run("reload")?;
    eventually("private space is listed", SOON, || Ok(show(site, "bogons")?.networks == 7))?;
    let asked = published.http()?.requests("/bogons").len();
    ensure!(asked == 1, "asked {asked} times");
    check(site, &["10.0.0.9", "192.168.7.7", "2001:db8:1:1::9", "8.8.8.8"], &["8.8.8.9", "198.51.100.9"])?;
    warns_of_nothing(site)
}

#[test]
fn the_whole_internet_is_blocked_by_nothing() -> Result<()> {
    let files = Files::new()?;
    files.write("all", "0.0.0.0/0\n::/0\n0.0.0.0-255.255.255.255\n128.0.0.0/1\n2000::/3\n8.8.8.8\n")?;
    let lists = table("all", &files.from("all"), "") + &table("any", &files.from("all"), "private = true");
    let site = Site::configured(&format!("{ENFORCE}{lists}"))?;
    for name in ["all", "any"] {
        await_entries(&site, name, 6)?;
        let shown = show(&site, name)?;
        ensure!(shown.networks == 1, "{shown:?}");
        ensure!(why(&shown, "0.0.0.0/0")?.contains("wider than /8"), "{shown:?}");
        ensure!(why(&shown, "::/0")?.contains("wider than /19"), "{shown:?}");
    }
    check(&site, &["8.8.8.8"], &["9.9.9.9", "200.1.1.1", "10.0.0.9", "2a00:1450::9", "2001:db8:1:1::9"])
}

/// The network of usual size around an address.
fn around(address: &str) -> Result<String> {
    let address = ip(address);
    let length = if address.is_ipv4() { 16 } else { 64 };
    Ok(Network::truncated(address, length).context("no such network")?.to_string())
}

/// The lab's namespaces share the machine's resolv.conf, so its resolvers are those of the machine; where it has none, or
/// only itself, that part has nothing to look at (the reading of resolv.conf has tests of its own).
#[test]
fn the_machine_and_its_surroundings_are_cut_out_and_shown() -> Result<()> {
    let files = Files::new()?;
    let resolvers: Vec<String> =
        Machine::look(&Config::default(), &BTreeMap::new())?.resolvers.iter().map(ToString::to_string).collect();
    let mut networks = vec!["192.0.2.0/24".to_owned(), "198.51.0.0/16".to_owned(), "2001:db8::/64".to_owned()];
    for resolver in &resolvers {
        let network = around(resolver)?;
        if !networks.contains(&network) {
            networks.push(network);
        }
    }
    files.write("near", networks.join("\n"))?;
    let lists = table("near", &files.from("near"), "private = true");
    let site = Site::configured(&format!("{ENFORCE}never_block = [\"198.51.100.7\"]\n{lists}"))?;
    await_entries(&site, "near", networks.len() as u64)?;

    let mut honest = vec!["192.0.2.2", "198.51.100.7", "2001:db8::2"];
    honest.extend(resolvers.iter().map(String::as_str));
    check(&site, &["192.0.2.9", "198.51.100.8", "198.51.7.7", "2001:db8::9"], &honest)?;
    for own in ["192.0.2.1", "2001:db8::1"] {
        let explained = site.controller.json(&["explain", own, "--service", "smtp"])?;
        ensure!(explained["services"][0]["refused"] == false, "{own}: {explained}");
    }

    let shown = show(&site, "near")?;
    ensure!(shown.refused.count == networks.len() as u64, "{:?}", shown.refused);
    let mut spared = vec![
        ("192.0.2.0/24".to_owned(), "192.0.2.1/32, an address of this machine".to_owned()),
        ("192.0.2.0/24".to_owned(), "192.0.2.2/32, a default gateway".to_owned()),
        ("198.51.0.0/16".to_owned(), "198.51.100.7/32, in never_block".to_owned()),
        ("2001:db8::/64".to_owned(), "2001:db8::1/128, an address of this machine".to_owned()),
        ("2001:db8::/64".to_owned(), "2001:db8::2/128, a default gateway".to_owned()),
    ];
    for resolver in &resolvers {
        spared.push((around(resolver)?, format!("{}, a resolver of this machine", Network::host(ip(resolver)))));
    }
    for (network, says) in &spared {
        let why = why(&shown, network)?;
        ensure!(why.starts_with("spares ") && why.contains(says), "{network}: {why}");
    }
    println!("{} resolvers of this machine were spared", resolvers.len());

    // Another gateway, noticed at the reload.
    site.wire.gateway.ip("route replace default via 192.0.2.77")?;
    site.run("reload")?;
    check(&site, &["192.0.2.2", "192.0.2.9"], &["192.0.2.77"])
}

#[test]
fn one_allowed_or_trusted_address_in_a_blocked_network_passes_alone() -> Result<()> {
    let files = Files::new()?;
    files.write("wide", "8.8.0.0/16\n")?;
    files.write("partners", "8.8.9.9\n")?;
    let lists =
        table("wide", &files.from("wide"), "") + &table("partners", &files.from("partners"), "action = \"allow\"");
    let site = Site::configured(&format!("{ENFORCE}allow = [\"8.8.4.4\"]\ntrust = [\"8.8.6.6\"]\n{lists}"))?;
    await_entries(&site, "wide", 1)?;
    await_entries(&site, "partners", 1)?;
    check(
        &site,
        &["8.8.4.3", "8.8.4.5", "8.8.6.5", "8.8.6.7", "8.8.9.8", "8.8.9.10", "8.8.0.0", "8.8.255.255"],
        &["8.8.4.4", "8.8.9.9", "8.7.255.255", "8.9.0.0"],
    )?;
    ensure!(next(&site, "8.8.6.6", SMTP)? == (Reason::Trusted, true));
    // By command, too, and at once.
    site.run("allow add 8.8.4.5")?;
    check(&site, &["8.8.4.3"], &["8.8.4.5"])?;
    site.run("allow remove 8.8.4.5")?;
    check(&site, &["8.8.4.5"], &["8.8.4.4"])?;
    warns_of_nothing(&site)
}
