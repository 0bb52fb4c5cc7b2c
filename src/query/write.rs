//! A plan as the numbers that the program reads in .rodata.

use anyhow::{Result, anyhow};

use super::field::Field;
use crate::schema::{Kind, Place};

/// A place in .rodata, whose members BTF names.
pub(crate) struct Spot<'b> {
    pub(super) place: Place,
    pub(super) rodata: &'b mut [u8],
}

impl Spot<'_> {
    /// A member, or an element of one that is an array.
    pub(super) fn of(&mut self, name: &str, index: usize) -> Result<Spot<'_>> {
        let place = self.place.member(name);
        let place = place.ok_or_else(|| anyhow!("the object's plan has no `{name}`"))?;
        let place = match &place.ty.kind {
            Kind::Array { element, len } if index < *len => place.element(element, index),
            _ => place,
        };
        let rodata = &mut *self.rodata;
        Ok(Spot { place, rodata })
    }

    pub(super) fn set(&mut self, name: &str, number: u64) -> Result<()> {
        self.of(name, 0)?.put(number);
        Ok(())
    }

    pub(crate) fn put(&mut self, number: u64) {
        self.place.put(self.rodata, number.into());
    }

    pub(super) fn field(&mut self, field: &Field, at: usize) -> Result<()> {
        self.set("kind", field.read as u64)?;
        self.set("base", field.base.number().into())?;
        self.set("hops", field.offsets.len() as u64 - 1)?;
        self.set("is_signed", field.is_signed().into())?;
        self.set("size", field.size as u64)?;
        self.set("shift", field.shift.into())?;
        self.set("bits", field.bits.into())?;
        for (i, offset) in field.offsets.iter().enumerate() {
            self.of("offsets", i)?.put((*offset).into());
        }
        self.set("at", at as u64)?;
        self.set("width", field.stored.size() as u64)
    }
}
