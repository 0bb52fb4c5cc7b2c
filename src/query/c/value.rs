//! A value as C: the way to it in words, and the statement that reads it.

use crate::query::event::Event;
use crate::query::field::{Base, Field, Read};

/// The words for values of these events.
#[derive(Clone, Copy)]
pub(super) struct Words<'p> {
    pub(super) start: &'p Event,
    pub(super) end: Option<&'p Event>,
}

impl<'p> Words<'p> {
    /// A statement that sets a number, or a text of zeroes.
    pub(super) fn value(self, field: &Field, to: &str) -> String {
        match field.stored.is_number() {
            true => self.number(field, to),
            false => field.read_text(to, self.event(field)),
        }
    }

    pub(super) fn number(self, field: &Field, to: &str) -> String {
        field.read_number(to, self.event(field))
    }

    fn event(self, field: &Field) -> &'p Event {
        self.end.filter(|_| field.at_end).unwrap_or(self.start)
    }
}

impl Field {
    /// The type, and where it is: `char[16], argument 1, +3024`.
    pub(super) fn way(&self) -> String {
        let base = match self.base {
            Base::Argument(number) => format!("argument {number}"),
            Base::Context => "the context".to_owned(),
            other => format!("{other:?}").to_lowercase(),
        };
        let offsets: Vec<String> = self.offsets.iter().map(|it| format!("+{it}")).collect();
        let way = match self.read {
            Read::Word | Read::Comm | Read::KernelStack | Read::UserStack => String::new(),
            _ => format!(", {}", offsets.join(" -> ")),
        };
        let bits = match (self.shift, self.bits) {
            (_, 0) => String::new(),
            (shift, bits) => format!(", bits {shift} to {}", shift + bits - 1),
        };
        let when = if self.at_end { ", at the end" } else { "" };
        format!("{}, {base}{way}{bits}{when}", self.c_type)
    }

    /// The base as C has it. Arguments without a name are words of the context.
    fn base_in_c(&self, event: &Event) -> String {
        let named = self.path.as_ref().and_then(|path| path.first());
        match (self.base, named) {
            (Base::Task, _) => "current".to_owned(),
            (Base::Argument(_) | Base::Return, Some(name)) => name.clone(),
            (Base::Argument(number), None) if event.program() == "traced" => {
                format!("ctx[{number}]")
            }
            (Base::Argument(number), None) => format!("PT_REGS_PARM{}(ctx)", number + 1),
            (Base::Context, _) => "ctx".to_owned(),
            (Base::Return, None) => "PT_REGS_RC(ctx)".to_owned(),
            (Base::Pid, _) => "tally_current_pid()".to_owned(),
            (Base::Tid, _) => "tally_current_tid()".to_owned(),
            (Base::Ppid, _) => "BPF_CORE_READ(current, real_parent, tgid)".to_owned(),
            (Base::Uid, _) => "(__u32)bpf_get_current_uid_gid()".to_owned(),
            (Base::Cgroup, _) => "bpf_get_current_cgroup_id()".to_owned(),
            (Base::Cpu, _) => "bpf_get_smp_processor_id()".to_owned(),
            (Base::Call, _) => "syscall_number((void *)ctx[0])".to_owned(),
            (Base::Time, _) => "time_".to_owned(),
        }
    }

    /// The words of BPF_CORE_READ() for what is in memory, if it has some.
    fn core(&self) -> Option<String> {
        let path = self.path.as_ref()?;
        let is_named = path.len() > 1 && path.iter().all(|it| !it.is_empty());
        is_named.then(|| path.join(", "))
    }

    /// The address of the value, step by step: for what CO-RE has no words for.
    fn address(&self, event: &Event) -> String {
        let (first, rest) = self.offsets.split_first().unwrap_or((&0, &[]));
        let mut address = format!("(__u64){} + {first}", self.base_in_c(event));
        for offset in rest {
            address = format!("read_word({address}) + {offset}");
        }
        address
    }

    /// A statement that sets a number.
    fn read_number(&self, to: &str, event: &Event) -> String {
        let is_part = self.bits != 0 && usize::from(self.bits) != 8 * self.size;
        match self.core() {
            _ if self.read == Read::Word => format!("{to} = (__u64){}", self.base_in_c(event)),
            Some(core) if !is_part => format!("{to} = (__u64)BPF_CORE_READ({core})"),
            _ => {
                let (size, shift, bits) = (self.size, self.shift, self.bits);
                let word = format!("read_number({}, {size})", self.address(event));
                let cast = if self.is_signed() { "(__s64)" } else { "" };
                match bits {
                    0 => format!("{to} = {word}"),
                    bits => format!(
                        "{to} = {cast}({word} << {}) >> {}",
                        64 - bits - shift,
                        64 - bits
                    ),
                }
            }
        }
    }

    /// A statement that sets text or bytes, of zeroes.
    fn read_text(&self, to: &str, event: &Event) -> String {
        let size = self.stored.size();
        match (self.read, self.core()) {
            (Read::Comm, _) => format!("current_name({to})"),
            (Read::RecordString, _) => {
                let place = format!("read_number({}, 4)", self.address(event));
                format!("read_text({to}, {size}, (__u64)ctx + ({place} & 0xffff))")
            }
            (Read::Bytes, _) => format!(
                "bpf_probe_read_kernel({to}, {size}, (void *)({}))",
                self.address(event)
            ),
            (_, Some(core)) => format!("BPF_CORE_READ_STR_INTO(&{to}, {core})"),
            (_, None) => format!("read_text({to}, {size}, {})", self.text_address(event)),
        }
    }

    /// Of a text that a pointer leads to: CO-RE may have words for the pointer.
    fn text_address(&self, event: &Event) -> String {
        let path = self.path.as_ref().and_then(|path| path.split_last());
        let pointer = path
            .filter(|(last, _)| last.is_empty())
            .map(|(_, path)| path);
        match pointer {
            Some([pointer]) => format!("(__u64){pointer}"),
            Some(path) if path.iter().all(|it| !it.is_empty()) => {
                format!("(__u64)BPF_CORE_READ({})", path.join(", "))
            }
            _ => self.address(event),
        }
    }
}

/// Reads what BPF_CORE_READ() cannot: memory of the kernel has the upper half of the addresses.
pub(super) const HELPERS: &str = "
static __always_inline void read_memory(void *to, __u32 size, __u64 from)
{
	if ((__s64)from < 0)
		bpf_probe_read_kernel(to, size, (void *)from);
	else
		bpf_probe_read_user(to, size, (void *)from);
}

static __always_inline __u64 read_number(__u64 from, __u32 size)
{
	__u64 number = 0;

	read_memory(&number, size, from);
	return number;
}

static __always_inline __u64 read_word(__u64 from)
{
	return read_number(from, 8);
}

static __always_inline void read_text(void *to, __u32 size, __u64 from)
{
	if ((__s64)from < 0)
		bpf_probe_read_kernel_str(to, size, (void *)from);
	else
		bpf_probe_read_user_str(to, size, (void *)from);
}
";

pub(super) const IS_TEXT: &str = "
static __always_inline bool is_text(const char text[64], const char *wanted)
{
	for (int i = 0; i < 64; i++) {
		if (text[i] != wanted[i])
			return false;
		if (!text[i])
			return true;
	}
	return true;
}
";
