# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
# The tables of docs/kernels.md, from what the guests said, a column each.
function put(name, text) {
	if (!(name in seen)) {
		seen[name]
		order[++rows] = name
	}
	cell[name, n] = text
}
function note(text) {
	if (!(text in notes)) {
		notes[text] = ++last
		said[last] = text
	}
	return " (" notes[text] ")"
}
FNR == 1 { n++ }
{ gsub(/\033\[[0-9;]*m/, "") }
# `ktally check`: WHAT OK FOUND.
/^kernel +(ok|no)/ { sub(/;$/, "", $3); kernel[n] = $3 }
/^(tally [a-z_]+|BTF|JIT|bpffs|tracefs|kprobes|fentry) +(ok|NO|no|-)( |$)/ {
	name = $1 == "tally" ? "`" $2 "`" : $1
	found = $0
	sub(/^(tally +)?[A-Za-z_]+ +[A-Za-z-]+ */, "", found)
	put(name, $0 ~ / ok( |$)/ ? "yes" : "no" note(found))
}
/^counted: / && ("`" $2 "`", n) in cell {
	put("`" $2 "`", "exact")
	exact[n]++
}
/^room: / { sub(/^room: /, ""); sub(/::/, ""); room = "tests: " $0; why = "" }
/^impossible on this kernel: / { if (!index(why, note(substr($0, 28)))) why = why note(substr($0, 28)) }
/^test result: / { put(room, $4 (why ? " of " $4 + $6 why : "")) }
END {
	for (n in kernel) put("tallies counted exactly", exact[n])
	line = "| |"
	for (i = 1; i <= n; i++) line = line " " kernel[i] " |"
	print line
	gsub(/[^|]+/, "---", line)
	print line
	for (row = 1; row <= rows; row++) {
		line = "| " order[row] " |"
		for (i = 1; i <= n; i++) line = line " " cell[order[row], i] " |"
		print line
	}
	for (i = 1; i <= last; i++) print (i > 1 ? "" : "\n") i ". " said[i]
}
