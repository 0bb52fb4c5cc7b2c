# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
# The table of docs/kernels.md, from what the guests said: a column each. Tallies with the
# same cells share a row.
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
function cells(name, i, line) {
	for (i = 1; i <= n; i++) line = line " " cell[name, i] " |"
	return line
}
FNR == 1 { n++ }
{ gsub(/\033\[[0-9;]*m/, "") }
# `ktally check`: WHAT OK FOUND.
/^kernel +(ok|no)/ { sub(/;$/, "", $3); cell["", n] = $3 }
/^(kernel|tally [a-z_]+|BTF|JIT|bpffs|tracefs|kprobes|fentry|cgroup2) +(ok|NO|no|-)( |$)/ {
	is_tally = $1 == "tally"
	name = is_tally ? "`" $2 "`" : $1
	if (name == "kernel") name = "all features"
	found = $0
	sub(/^(tally +)?[A-Za-z_0-9]+ +[A-Za-z-]+ *(.* lacks )?/, "", found)
	put(name, $0 ~ / ok( |$)/ ? "yes" : "no" note(found))
	if (is_tally) tallies[name]
}
/^counted: / && ("`" $2 "`") in tallies { put("`" $2 "`", "exact") }
/^impossible on this kernel: / {
	sub(/^[^:]*: (ktally: )?(failed to [^:]*: )?/, "")
	why = note($0)
	if (!index(lack[n], why)) lack[n] = lack[n] why
}
/^test result: / { passed[n] += $4; failed[n] += $6 }
END {
	for (name in tallies) {
		like = cells(name)
		if (++count[like] > count[most]) most = like
	}
	line = "| |" cells("")
	print line
	gsub(/[^|]+/, "---", line)
	print line
	for (row = 1; row <= rows; row++) {
		name = order[row]
		like = cells(name)
		if (!(name in tallies))
			print "| " name " |" like
		else if (like == most)
			others++
		else if (!(like in shared))
			shared[like] = name
		else
			shared[like] = shared[like] ", " name
	}
	for (like in shared) print "| " shared[like] " |" like
	print "| every " (others < length(tallies) ? "other " : "") "tally (" others ") |" most
	for (i = 1; i <= n; i++) {
		cell["passed", i] = passed[i]
		cell["failed", i] = failed[i] + 0 lack[i]
	}
	print "| tests passed |" cells("passed")
	print "| tests that are impossible there |" cells("failed")
	for (i = 1; i <= last; i++) print (i > 1 ? "" : "\n") i ". " said[i]
}
