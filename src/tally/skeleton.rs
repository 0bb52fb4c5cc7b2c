//! The plumbing of libbpf-rs: sessions use skeletons and object files through the same
//! two types.

use std::fs::File;
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;

use libbpf_rs::skel::{OpenSkel, Skel, SkelBuilder};
use libbpf_rs::{Object, ObjectBuilder, OpenObject, Result};

pub(super) type Loaded = Box<dyn Skel<'static>>;

/// An object that is open but not yet loaded.
pub(super) trait Opened {
    fn object(&self) -> &OpenObject;
    fn object_mut(&mut self) -> &mut OpenObject;
    fn load(self: Box<Self>) -> Result<Loaded>;
}

impl<S> Opened for S
where
    S: OpenSkel<'static>,
    S::Output: 'static,
{
    fn object(&self) -> &OpenObject {
        self.open_object()
    }

    fn object_mut(&mut self) -> &mut OpenObject {
        self.open_object_mut()
    }

    fn load(self: Box<Self>) -> Result<Loaded> {
        Ok(Box::new(OpenSkel::load(*self)?))
    }
}

/// An object that is loaded with the types of the kernel that are in a file.
struct WithBtf(Box<dyn Opened>, File);

impl Opened for WithBtf {
    fn object(&self) -> &OpenObject {
        self.0.object()
    }

    fn object_mut(&mut self) -> &mut OpenObject {
        self.0.object_mut()
    }

    fn load(self: Box<Self>) -> Result<Loaded> {
        let Self(opened, _open) = *self;
        opened.load()
    }
}

pub(super) fn open<B>(mut builder: B, btf: Option<File>) -> Result<Box<dyn Opened>>
where
    B: SkelBuilder<'static>,
    B::Output: 'static,
{
    if let Some(btf) = btf {
        let path = format!("/proc/self/fd/{}", btf.as_raw_fd());
        builder.object_builder_mut().btf_custom_path(path)?;
        return Ok(Box::new(WithBtf(open(builder, None)?, btf)));
    }
    // A skeleton borrows the storage of its object. It frees the object; the storage, a
    // pointer in size, leaks until the process ends.
    let place = Box::leak(Box::new(MaybeUninit::uninit()));
    Ok(Box::new(builder.open(place)?))
}

pub(super) fn open_file(name: &str, object: &[u8]) -> Result<Box<dyn Opened>> {
    // The kernel allows no other characters in the names of maps.
    let name = name.replace(|c: char| !c.is_ascii_alphanumeric(), "_");
    let opened = ObjectBuilder::default().name(name)?.open_memory(object)?;
    Ok(Box::new(OpenFile(opened)))
}

struct OpenFile(OpenObject);

struct LoadedFile(Object);

impl OpenSkel<'static> for OpenFile {
    type Output = LoadedFile;

    fn load(self) -> Result<LoadedFile> {
        self.0.load().map(LoadedFile)
    }

    fn open_object(&self) -> &OpenObject {
        &self.0
    }

    fn open_object_mut(&mut self) -> &mut OpenObject {
        &mut self.0
    }
}

impl Skel<'static> for LoadedFile {
    fn object(&self) -> &Object {
        &self.0
    }

    fn object_mut(&mut self) -> &mut Object {
        &mut self.0
    }
}
