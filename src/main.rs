use std::mem::MaybeUninit;
fn main() {
    for b in ktally::CATALOGUE {
        let mut s = MaybeUninit::uninit();
        let o = (b.open)(&mut s).unwrap();
        let mut l = o.load().unwrap();
        println!("{}", b.name);
        for m in l.object().maps() { println!("  {:?}", libbpf_rs::MapCore::name(&m)); }
        let links: Vec<_> = l.object_mut().progs_mut().map(|p| p.attach().unwrap()).collect();
        let _ = links;
    }
}
