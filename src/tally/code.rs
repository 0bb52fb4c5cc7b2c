//! The instructions of an object, before libbpf changes them: which maps its programs
//! read, and how.

use std::collections::HashMap;

use anyhow::{Context, Result};
use object::read::elf::ElfFile64;
use object::{Object, ObjectSection, ObjectSymbol, RelocationTarget, SectionKind};

/// One instruction.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Instruction {
    pub(super) code: u8,
    pub(super) target: u8,
    pub(super) source: u8,
    pub(super) offset: i16,
    pub(super) immediate: i32,
    /// The map whose address it loads.
    pub(super) map: Option<String>,
}

/// A section of programs or functions.
#[derive(Debug, Clone)]
pub(super) struct Code {
    pub(super) section: String,
    pub(super) instructions: Vec<Instruction>,
    /// The first instruction of each line of C, and the line.
    lines: Vec<(usize, u32)>,
}

/// A call of a helper or a function.
pub(super) const CALL: u8 = 0x85;
/// `bpf_map_delete_elem`.
const DELETE: i32 = 3;

impl Instruction {
    const SIZE: usize = 8;

    fn read(bytes: &[u8; Self::SIZE]) -> Self {
        let [code, registers, a, b, rest @ ..] = *bytes;
        Self {
            code,
            target: registers & 0xf,
            source: registers >> 4,
            offset: i16::from_le_bytes([a, b]),
            immediate: i32::from_le_bytes(rest),
            map: None,
        }
    }

    /// The helper that it calls.
    pub(super) fn helper(&self) -> Option<i32> {
        (self.code == CALL && self.source == 0).then_some(self.immediate)
    }
}

/// Whether an object says what its maps hold.
pub(super) fn has_btf(object: &[u8]) -> bool {
    let file: Result<ElfFile64<'_>, _> = ElfFile64::parse(object);
    file.is_ok_and(|file| file.section_by_name(".BTF").is_some())
}

/// All code of an object.
pub(super) fn read(object: &[u8]) -> Result<Vec<Code>> {
    let file: ElfFile64<'_> = ElfFile64::parse(object).context("failed to parse the object")?;
    let maps = file.section_by_name(".maps").map(|section| section.index());
    let mut code = Vec::new();
    for section in file.sections().filter(|it| it.kind() == SectionKind::Text) {
        let data = section.data().context("failed to read the code")?;
        let mut instructions: Vec<Instruction> =
            data.as_chunks().0.iter().map(Instruction::read).collect();
        for (offset, relocation) in section.relocations() {
            let RelocationTarget::Symbol(symbol) = relocation.target() else {
                continue;
            };
            let symbol = file.symbol_by_index(symbol);
            let Ok(symbol) = symbol.context("a relocation has no symbol") else {
                continue;
            };
            let at = usize::try_from(offset).unwrap_or(usize::MAX) / Instruction::SIZE;
            if let Some(it) = instructions.get_mut(at)
                && maps.is_some()
                && symbol.section_index() == maps
            {
                it.map = symbol.name().ok().map(str::to_owned);
            }
        }
        let section = section.name().unwrap_or_default().to_owned();
        code.push(Code {
            lines: lines_of(&file, &section).unwrap_or_default(),
            section,
            instructions,
        });
    }
    Ok(code)
}

impl Code {
    /// Each call of a helper with the map in its first argument, as far as a straight
    /// line of code shows it.
    pub(super) fn calls(&self) -> impl Iterator<Item = (usize, i32, Option<&str>)> {
        const MOV: u8 = 0xbf;
        let mut held: HashMap<u8, &str> = HashMap::new();
        let instructions = self.instructions.iter().enumerate();
        instructions.filter_map(move |(at, it)| {
            if let Some(map) = &it.map {
                held.insert(it.target, map);
            } else if it.code == MOV {
                match held.get(&it.source).copied() {
                    Some(map) => held.insert(it.target, map),
                    None => held.remove(&it.target),
                };
            }
            let call = it
                .helper()
                .map(|helper| (at, helper, held.get(&1).copied()));
            if it.code == CALL {
                held.retain(|register, _| *register > 5);
            }
            call
        })
    }

    /// Where an instruction stands, for people.
    pub(super) fn place(&self, at: usize) -> String {
        let line = self.lines.iter().rev().find(|(first, _)| *first <= at);
        match line {
            Some((_, line)) => format!("line {line}"),
            None => format!("section `{}`", self.section),
        }
    }
}

/// The lines of a section, from `.BTF.ext`: a header, whose fifth and sixth words are
/// where the lines are, and how many bytes; then for each section its name, the number of
/// its lines, and each line with its instruction.
fn lines_of(file: &ElfFile64<'_>, section: &str) -> Option<Vec<(usize, u32)>> {
    let of = |name| file.section_by_name(name)?.data().ok();
    let (btf, ext) = (of(".BTF")?, of(".BTF.ext")?);
    let word = |bytes: &[u8], at: usize| {
        let word = bytes.get(at..at.checked_add(4)?)?.first_chunk().copied()?;
        Some(u32::from_le_bytes(word) as usize)
    };
    let strings = word(btf, 4)?.checked_add(word(btf, 16)?)?;
    let mut at = word(ext, 4)?.checked_add(word(ext, 16)?)?;
    let end = at.checked_add(word(ext, 20)?)?.min(ext.len());
    let size = word(ext, at)?.max(16);
    at += 4;
    while at < end {
        let (name, count) = (word(ext, at)?.checked_add(strings)?, word(ext, at + 4)?);
        at += 8;
        let name = btf.get(name..)?.split(|byte| *byte == 0).next()?;
        if name == section.as_bytes() {
            let lines = (0..count).map_while(|i| {
                let at = size.checked_mul(i)?.checked_add(at)?;
                let instruction = word(ext, at)? / Instruction::SIZE;
                Some((instruction, (word(ext, at + 12)? >> 10) as u32))
            });
            return Some(lines.collect());
        }
        at = size.checked_mul(count)?.checked_add(at)?;
    }
    None
}

/// The maps that programs delete from: they pair events, and count nothing.
pub(super) fn deleted_from(object: &[u8]) -> Vec<String> {
    let code = read(object).unwrap_or_default();
    let calls = code.iter().flat_map(Code::calls);
    let deletes = calls.filter(|(_, helper, _)| *helper == DELETE);
    let maps = deletes.filter_map(|(.., map)| map.map(str::to_owned));
    maps.collect()
}
