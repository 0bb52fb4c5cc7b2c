//! x
#![allow(missing_docs)]
use std::mem::MaybeUninit;
use libbpf_rs::OpenObject;
use libbpf_rs::skel::*;
pub struct Builtin { pub name: &'static str, pub open: for<'o> fn(&'o mut MaybeUninit<OpenObject>)->libbpf_rs::Result<Box<dyn Open<'o> + 'o>> }
pub trait Open<'obj> {
    fn open_object_mut(&mut self) -> &mut OpenObject;
    fn load(self: Box<Self>) -> libbpf_rs::Result<Box<dyn Skel<'obj> + 'obj>>;
}
impl<'obj, S> Open<'obj> for S where S: OpenSkel<'obj>, S::Output: 'obj {
    fn open_object_mut(&mut self) -> &mut OpenObject { OpenSkel::open_object_mut(self) }
    fn load(self: Box<Self>) -> libbpf_rs::Result<Box<dyn Skel<'obj> + 'obj>> { Ok(Box::new(OpenSkel::load(*self)?)) }
}
fn open_skeleton<'o, B: SkelBuilder<'o>>(b: B, storage: &'o mut MaybeUninit<OpenObject>) -> libbpf_rs::Result<Box<dyn Open<'o> + 'o>> where B::Output: 'o {
    Ok(Box::new(b.open(storage)?))
}
include!(concat!(env!("OUT_DIR"), "/catalogue.rs"));
pub mod internal { include!(concat!(env!("OUT_DIR"), "/internal.rs")); }
