//! A plan as a C file that counts the same: a tally to begin with and to change.

use std::fmt::Write;

use super::column::{Column, Measure};
use super::event::Event;
use super::field::{Base, Field, Read, Stored};
use super::plan::Plan;

impl Plan {
    /// The C file. Its first comment says what each expression leads to.
    pub fn as_c(&self) -> String {
        let mut c = format!(
            "// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause\n/*\n * {}\n *\n",
            self.summary()
        );
        self.understood(&mut c);
        c += " */\n#include \"vmlinux.h\"\n#include \"ktally.bpf.h\"\n";
        if self.has_stacks() {
            c += "#include \"stacks.h\"\n";
        }
        let _ = write!(
            c,
            "\nTALLY(\"{}\");\n\nTASK_FILTERS;\nCPU_FILTER;\n\n",
            self.summary().replace(['"', '\\'], "_")
        );
        self.types(&mut c);
        let program = self.program();
        for (helpers, word) in [(HELPERS, "read_"), (IS_TEXT, "is_text(")] {
            if program.contains(word) {
                c += helpers;
            }
        }
        c + &program
    }

    pub(super) fn has_stacks(&self) -> bool {
        self.key.iter().any(|it| it.field.stored.is_stack())
    }

    /// A line for each value: its type, its place in the key or value, and the way to it.
    fn understood(&self, c: &mut String) {
        for (what, columns) in [("key", &self.key), ("value", &self.values)] {
            for Column {
                field,
                name,
                at,
                measure,
                ..
            } in columns
            {
                let size = match measure {
                    Measure::Key => field.stored.size(),
                    measure => measure.size(),
                };
                let _ = writeln!(c, " * {what} {at}..{}: {name}, {}", at + size, field.way());
            }
        }
        for filter in &self.filters {
            let _ = writeln!(c, " * where {}: {}", filter.text, filter.field.way());
        }
    }

    fn types(&self, c: &mut String) {
        *c += "struct counted_by {\n";
        for column in &self.key {
            let declared = column.field.stored.declare(&c_name(&column.name));
            let _ = match &column.field.decoder {
                Some(decoder) => writeln!(c, "\t{declared} AS({decoder});"),
                None => writeln!(c, "\t{declared};"),
            };
        }
        if self.key.is_empty() {
            *c += "\t__u8 unused HIDDEN;\n";
        }
        *c += "};\n\nstruct counted {\n\t__u64 events COUNTER(\"events\");\n";
        for column in &self.values {
            let (name, help) = (c_name(&column.name), column.help());
            let unit = column.unit.as_ref().map(|unit| format!(" UNIT({unit})"));
            let declared = match column.measure {
                Measure::Max => format!("__u64 {name} MAXIMUM(\"{help}\")"),
                Measure::Min => format!("__u64 {name} MINIMUM(\"{help}\")"),
                Measure::Log2 => {
                    format!("struct tally_histogram {name} HISTOGRAM(\"{help}\")")
                }
                Measure::Linear(step) => {
                    format!("LINEAR_HISTOGRAM(\"{help}\", {step}) {name}")
                }
                Measure::Key | Measure::Sum => format!("__u64 {name} COUNTER(\"{help}\")"),
            };
            let _ = writeln!(c, "\t{declared}{};", unit.unwrap_or_default());
        }
        *c += "};\n\nTABLE(events, struct counted_by, struct counted, 8192, \"events\");\n";
        if self.has_stacks() {
            *c += "\n/* Too large for the BPF stack. */\nCPU_STATE(scratch, struct counted_by);\n";
        }
    }

    fn program(&self) -> String {
        let mut c = String::new();
        let section = self.event.section();
        let attach = self.event.target();
        let attach = attach.map_or_else(String::new, |it| format!(" ATTACH(\"{it}\")"));
        let head = match &self.event {
            Event::Tracepoint(_)
            | Event::Function {
                is_probed: false, ..
            } => {
                format!("BPF_PROG({})", listed("count", &self.arguments))
            }
            Event::Function {
                is_probed: true,
                at_return: false,
                ..
            } => {
                format!("BPF_KPROBE({})", listed("count", &self.arguments))
            }
            Event::Function { .. } => {
                format!("BPF_KRETPROBE({})", listed("count", &self.arguments))
            }
            Event::User { .. } => "count(struct pt_regs *ctx)".to_owned(),
            Event::Record(..) | Event::Clock(_) => "count(void *ctx)".to_owned(),
        };
        let _ = write!(c, "\nSEC(\"{section}\"){attach}\nint {head}\n{{\n");
        self.begin(&mut c);
        for filter in &self.filters {
            let field = &filter.field;
            let statement = match field.stored.is_text() {
                true => field.read_text("text_", &self.event),
                false => field.read_number("number_", &self.event),
            };
            let (value, clear) = match field.stored.is_text() {
                true => ("text_", "\t__builtin_memset(text_, 0, sizeof(text_));\n"),
                false => ("number_", ""),
            };
            let _ = writeln!(
                c,
                "{clear}\t{statement};\n\tif ({})\n\t\treturn 0;",
                filter.as_c(value)
            );
        }
        self.fill(&mut c);
        let key = if self.has_stacks() { "key_" } else { "&key_" };
        let _ = writeln!(
            c,
            "\n\tvalue_ = tally_entry(events, {key});\n\t__sync_fetch_and_add(&value_->events, 1);"
        );
        for column in &self.values {
            let to = format!("&value_->{}", c_name(&column.name));
            let add = match column.measure {
                Measure::Max => "tally_maximum",
                Measure::Min => "tally_minimum",
                Measure::Log2 => "tally_observe",
                Measure::Linear(_) => "tally_observe_linear",
                Measure::Key | Measure::Sum => "__sync_fetch_and_add",
            };
            let statement = column.field.read_number("number_", &self.event);
            let _ = writeln!(c, "\t{statement};");
            if column.measure != Measure::Sum && column.field.is_signed() {
                c += "\tif ((__s64)number_ < 0)\n\t\tnumber_ = 0;\n";
            }
            let _ = writeln!(c, "\t{add}({to}, number_);");
        }
        c += "\treturn 0;\n}\n";
        c
    }

    /// What is used of these variables.
    fn begin(&self, c: &mut String) {
        let uses = |base| self.bases().any(|it| it == base);
        let numbers = self.filters.iter().any(|it| it.field.stored.is_number());
        if uses(Base::Task) || uses(Base::Ppid) {
            *c += "\tstruct task_struct *current = (void *)bpf_get_current_task();\n";
        }
        *c += match self.has_stacks() {
            true => "\tstruct counted_by *key_ = tally_cpu_state(scratch);\n",
            false => "\tstruct counted_by key_ = {};\n",
        };
        *c += "\tstruct counted *value_;\n";
        if numbers || !self.values.is_empty() {
            *c += "\t__u64 number_;\n";
        }
        if self.filters.iter().any(|it| it.field.stored.is_text()) {
            *c += "\tchar text_[64];\n";
        }
        *c += "\n\tif (!wanted_cpu() || !wanted_task())\n\t\treturn 0;\n";
    }

    fn bases(&self) -> impl Iterator<Item = Base> {
        let columns = self.key.iter().chain(&self.values);
        let filters = self.filters.iter().map(|it| it.field.base);
        columns.map(|it| it.field.base).chain(filters)
    }

    fn fill(&self, c: &mut String) {
        let arrow = if self.has_stacks() { "->" } else { "." };
        if self.has_stacks() {
            *c += "\tif (!key_)\n\t\treturn 0;\n\t__builtin_memset(key_, 0, sizeof(*key_));\n";
        }
        for column in &self.key {
            let to = format!("key_{arrow}{}", c_name(&column.name));
            let statement = match column.field.stored {
                Stored::KernelStack => format!("tally_kernel_stack(ctx, &{to})"),
                Stored::UserStack => format!("tally_user_stack(ctx, &{to})"),
                Stored::Text(_) | Stored::Bytes(_) => column.field.read_text(&to, &self.event),
                _ => column.field.read_number(&to, &self.event),
            };
            let _ = writeln!(c, "\t{statement};");
        }
    }
}

fn listed(first: &str, others: &[String]) -> String {
    let all = [first.to_owned()].into_iter().chain(others.iter().cloned());
    all.collect::<Vec<_>>().join(", ")
}

pub(crate) fn c_name(name: &str) -> String {
    name.replace(|c: char| !c.is_ascii_alphanumeric(), "_")
}

impl Field {
    /// The type, and where it is: `char[16], argument 1, +3024`.
    fn way(&self) -> String {
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
        format!("{}, {base}{way}{bits}", self.c_type)
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
const HELPERS: &str = "
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

const IS_TEXT: &str = "
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
