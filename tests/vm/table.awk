# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
# docs/kernels.md, from what the guests said: which tally was counted where.
FNR == 1 { n++ }
{ sub(/\r$/, ""); gsub(/\033\[[0-9;]*m/, "") }
/^kernel / { for (i = 2; i <= NF; i++) if ($i ~ /^[0-9]+\.[0-9]/) kernel[n] = $i }
# `tally NAME OK FOUND...`, `kprobes OK FOUND...`: from `ktally check`.
/^(tally [a-z_]+|BTF|JIT|kprobes|fentry) +(ok|NO|no|-)( |$)/ {
	name = $1 == "tally" ? $2 : $1
	if (!(name in seen)) {
		seen[name] = $1
		order[++rows] = name
	}
	lack = $0
	sub(/^(tally +)?[A-Za-z_]+ +[a-z-]+ */, "", lack)
	cell[name, n] = $(1 + ($1 == "tally") + 1) == "ok" ? "yes" : note(lack)
}
/^counted: / { cell[$2, n] = "exact" }
/^test result: / { passed[n] += $4 }
function note(text) {
	if (!(text in notes)) {
		notes[text] = ++last
		said[last] = text
	}
	return "no (" notes[text] ")"
}
function row(name,   i, line) {
	line = "| " (seen[name] == "tally" ? "`" name "`" : name) " |"
	for (i = 1; i <= n; i++)
		line = line " " cell[name, i] " |"
	print line
}
END {
	print "# Kernels\n\nWritten by `make test-kernels`, which runs tests/kernel on kernels of Debian in emulated machines.\n"
	print "*exact*: a test counted a known number of events and saw that number.\n"
	printf "| |"
	for (i = 1; i <= n; i++) printf " %s |", kernel[i]
	printf "\n|---|"
	for (i = 1; i <= n; i++) printf "---|"
	printf "\n| tests passed |"
	for (i = 1; i <= n; i++) printf " %s |", passed[i]
	print ""
	for (i = 1; i <= rows; i++) row(order[i])
	print ""
	for (i = 1; i <= last; i++) print i ". " said[i]
}
