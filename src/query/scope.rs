//! The names that an expression may begin with.

use anyhow::Result;

use super::event::{Event, World};
use super::expression::Word;
use super::field::{Base, Field, Read, Stored};
use super::record;
use crate::error::{unknown_text, usage};
use crate::schema::KernelBtf;
use crate::schema::walk::{Id, Part, Shape};

/// What an event carries.
pub(crate) struct Scope<'k> {
    pub(crate) kernel: &'k KernelBtf,
    pub(crate) event: Event,
    pub(crate) arguments: Vec<Part>,
    /// What a function returns, and where that is.
    returned: Option<(Base, Id)>,
    /// What needs no types of the kernel: of records and of registers.
    pub(crate) fields: Vec<Field>,
}

/// What a name stands for.
#[derive(Debug)]
pub(crate) enum Root {
    /// The base itself, of this type.
    Word(Base, Id),
    /// What the base points to.
    Memory(Base, Id),
    /// What needs no steps.
    Field(Field),
}

/// What every event has, with one line of help.
pub(crate) const COMMON: [(&str, &str); 10] = [
    ("comm", "the name of the current thread"),
    ("pid", "the current process"),
    ("tid", "the current thread"),
    ("ppid", "its parent process"),
    ("uid", "its user"),
    ("cgroup", "its cgroup"),
    ("cpu", "the CPU"),
    ("kstack", "the stack in the kernel"),
    ("ustack", "the stack in the program"),
    ("current", "the current task, a struct task_struct *"),
];

/// The arguments of a system call in its registers: x86-64, arm64.
const CALL_ARGUMENTS: [(&str, &str); 6] = [
    ("arg0", "di"),
    ("arg1", "si"),
    ("arg2", "dx"),
    ("arg3", "r10"),
    ("arg4", "r8"),
    ("arg5", "r9"),
];

impl<'k> Scope<'k> {
    pub(crate) fn new(world: &World<'k>, event: Event) -> Result<Self> {
        let mut scope = Self {
            kernel: world.kernel,
            event,
            arguments: Vec::new(),
            returned: None,
            fields: Vec::new(),
        };
        match &scope.event {
            Event::Tracepoint(name) => {
                let found = world.kernel.tracepoint(name).unwrap_or_default();
                scope.arguments = found.arguments;
            }
            Event::Function {
                name,
                at_return,
                is_probed,
            } => {
                let found = world.kernel.function(name).unwrap_or_default();
                let behind = u8::try_from(found.arguments.len())?;
                let base = match is_probed {
                    true => Base::Return,
                    false => Base::Argument(behind),
                };
                scope.returned = at_return.then_some((base, found.returned));
                // A kretprobe does not know any more how it was called.
                if !(*at_return && *is_probed) {
                    scope.arguments = found.arguments;
                }
            }
            Event::Record(group, name) => {
                scope.fields = record::fields(&(world.format)(group, name)?);
            }
            Event::User { at_return, .. } => scope.fields = registers(*at_return),
            Event::Clock(_) => {}
        }
        Ok(scope)
    }

    /// Whether it is about a system call, whose registers its first argument has.
    fn is_call(&self) -> bool {
        matches!(&self.event, Event::Tracepoint(name) if name == "sys_enter" || name == "sys_exit")
    }

    /// Every name that an expression may begin with.
    pub(crate) fn names(&self) -> Vec<&str> {
        let arguments = self.arguments.iter().map(|it| it.name.as_str());
        let call = ["call"].into_iter().chain(CALL_ARGUMENTS.map(|it| it.0));
        let common = COMMON.iter().map(|it| it.0);
        let call = call.filter(|_| self.is_call());
        let fields = self.fields.iter().map(|it| it.name.as_str());
        let returned = self.returned.map(|_| "retval");
        let own = arguments.chain(returned).chain(fields).chain(call);
        let own: Vec<&str> = own.collect();
        let common = common.filter(|name| !own.contains(name));
        own.iter().copied().chain(common).collect()
    }

    /// A bit for each argument that programs may copy, but not load: what neither is a
    /// number, nor points to one or to a struct (`btf_ctx_access()` of the kernel).
    pub(crate) fn opaque(&self) -> u32 {
        let is_opaque = |ty: Id| match self.kernel.node(ty).shape {
            Shape::Int { .. } | Shape::Bool | Shape::Enum { .. } => false,
            Shape::Pointer(to) => !matches!(
                self.kernel.node(to).shape,
                Shape::Void | Shape::Int { .. } | Shape::Bool | Shape::Composite(_)
            ),
            _ => true,
        };
        let types = self.arguments.iter().map(|it| it.ty);
        let types = types.chain(self.returned.map(|(_, ty)| ty));
        let bits = types.take(Base::ARGUMENTS).enumerate();
        let bits = bits.filter(|(_, ty)| is_opaque(*ty));
        bits.fold(0, |bits, (number, _)| bits | 1 << number)
    }

    /// The arguments as C declares them, and what is returned.
    pub(crate) fn declared(&self) -> Vec<String> {
        let declare = |name: &str, ty: Id| {
            let c_type = match self.kernel.node(ty).shape {
                Shape::Pointer(to) if self.kernel.node(to).shape == Shape::Function => {
                    "void *".to_owned()
                }
                // By value: BPF_PROG() has a word.
                Shape::Composite(_) => "__u64".to_owned(),
                _ => self.kernel.c_name(ty),
            };
            let space = if c_type.ends_with('*') { "" } else { " " };
            format!("{c_type}{space}{name}")
        };
        let arguments = self.arguments.iter().map(|it| declare(&it.name, it.ty));
        let returned = self.returned.map(|(_, ty)| declare("retval", ty));
        arguments.chain(returned).collect()
    }

    pub(crate) fn root(&self, word: &Word) -> Result<Root> {
        let name = word.text.as_str();
        let mut arguments = self.arguments.iter();
        if let Some(number) = arguments.position(|it| it.name == name) {
            let base = u8::try_from(number).ok();
            let most = self.readable();
            let base = base.filter(|it| usize::from(*it) < most);
            let Some(base) = base else {
                return Err(usage(format!(
                    "`{name}` is argument {}, of at most {most} that can be read",
                    number + 1,
                )));
            };
            return Ok(Root::Word(Base::Argument(base), self.arguments[number].ty));
        }
        let mut fields = self.fields.iter();
        if let Some(field) = fields.find(|it| it.name == name) {
            return Ok(Root::Field(field.clone()));
        }
        if let Some((base, ty)) = self.returned.filter(|_| name == "retval") {
            return Ok(Root::Word(base, ty));
        }
        if self.is_call()
            && let Some(root) = self.of_call(name)
        {
            return Ok(root);
        }
        self.common(name).ok_or_else(|| {
            let (event, at) = (self.event.name(), word.at);
            let known = unknown_text("value", name, self.names());
            usage(format!("event `{event}`, at position {at}: {known}"))
        })
    }

    /// How many arguments the program can read: kprobes have those in registers.
    fn readable(&self) -> usize {
        match self.event {
            Event::Function {
                is_probed: true, ..
            } => 6,
            _ => Base::ARGUMENTS,
        }
    }

    fn of_call(&self, name: &str) -> Option<Root> {
        if name == "call" {
            return Some(Root::Field(Field::of_base(
                "call",
                Base::Call,
                4,
                "syscall",
            )));
        }
        let register = CALL_ARGUMENTS.iter().position(|it| it.0 == name)?;
        let registers = self.kernel.structure("pt_regs")?;
        let members = self.kernel.members(registers);
        let member = |name: &str| members.iter().find(|it| it.name == name);
        let (offset, element) = if cfg!(target_arch = "aarch64") {
            // The call's result takes the place of the first argument.
            match register {
                0 => (member("orig_x0")?, 0),
                _ => (member("regs")?, 8 * register),
            }
        } else {
            (member(CALL_ARGUMENTS[register].1)?, 0)
        };
        let offset = u32::try_from(offset.bit_offset / 8 + element).ok()?;
        Some(Root::Field(Field {
            read: Read::Number,
            offsets: vec![offset],
            decoder: None,
            ..Field::of_base(name, Base::Argument(0), 8, "")
        }))
    }

    fn common(&self, name: &str) -> Option<Root> {
        let base = |base, size, decoder| Field::of_base(name, base, size, decoder);
        Some(Root::Field(match name {
            "comm" => Field::of_kind(name, Read::Comm, Stored::Text(16), "comm"),
            "pid" => base(Base::Pid, 4, "pid"),
            "tid" => base(Base::Tid, 4, "pid"),
            "ppid" => base(Base::Ppid, 4, "pid"),
            "uid" => base(Base::Uid, 4, "uid"),
            "cgroup" => base(Base::Cgroup, 8, "cgroup"),
            "cpu" => base(Base::Cpu, 4, "cpu"),
            "kstack" => Field {
                offsets: vec![self.event.own_frames()],
                ..Field::of_kind(name, Read::KernelStack, Stored::KernelStack, "kstack")
            },
            "ustack" => Field::of_kind(name, Read::UserStack, Stored::UserStack, "ustack"),
            "current" => {
                let task = self.kernel.structure("task_struct")?;
                return Some(Root::Memory(Base::Task, task));
            }
            _ => return None,
        }))
    }
}

/// The arguments of a user's function by their numbers, or what it returns.
fn registers(at_return: bool) -> Vec<Field> {
    let field = |name: &str, base| Field {
        decoder: None,
        ..Field::of_base(name, base, 8, "")
    };
    if at_return {
        return vec![field("retval", Base::Return)];
    }
    let arguments = (0..6).map(|number| field(&format!("arg{number}"), Base::Argument(number)));
    arguments.collect()
}
