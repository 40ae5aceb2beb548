use super::*;
use std::time::Instant;
#[test]
fn scratch_speed() {
    let mut x = 1u64;
    let mut next = move || {
        x = x.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (x >> 32) as u32
    };
    for n in [1_000_000usize, 5_000_000] {
        let plain: String = (0..n).map(|_| format!("{}\n", std::net::Ipv4Addr::from(next()))).collect();
        let cidr: String = (0..n).map(|_| format!("{}/24\n", std::net::Ipv4Addr::from(next()))).collect();
        let v6: String = (0..n / 5).map(|_| format!("2001:db8:{:x}:{:x}::/64\n", next() >> 16, next() >> 16)).collect();
        let zone = format!("{plain}!10.0.0.1\n!127.0.0.0/8\n");
        for (what, text, r) in [
            ("plain", &plain, told(Format::Plain)),
            ("plain auto", &plain, AUTO),
            ("cidr auto", &cidr, AUTO),
            ("v6 n/5 auto", &v6, AUTO),
            ("zone", &zone, AUTO),
        ] {
            let t = Instant::now();
            let p = parse(text.as_bytes(), &r).unwrap();
            eprintln!("{n} {what}: {:?} {} networks {:?}", t.elapsed(), p.networks.len(), p.format);
            let t = Instant::now();
            let guard: Networks =
                ["10.0.0.0/8", "127.0.0.0/8", "192.168.0.0/16"].iter().map(|t| t.parse::<Network>().unwrap()).collect();
            let met = p.networks.meeting(&guard).count();
            let a = t.elapsed();
            let t = Instant::now();
            let w = p.networks.without(&guard).len();
            let b = t.elapsed();
            let t = Instant::now();
            let s = p.networks.size();
            let c = t.elapsed();
            eprintln!("   meeting {met} {a:?}, without {w} {b:?}, size {s:?} {c:?}");
        }
        let t = Instant::now();
        let z = find(plain.as_bytes(), &AUTO, "1.2.3.4".parse().unwrap()).unwrap().len();
        eprintln!("find {z} {:?}", t.elapsed());
    }
}
