# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
# What a guest's tests came to. A test that ended because its kernel cannot run
# what it counts says so, after it has looked whether that is true. Without the
# mark of the end and a test that passed, all failed.
function say(what) { print series ": " what }
{ sub(/\r$/, "") }
/^kernel / { for (i = 2; i <= NF; i++) if ($i ~ /^[0-9]+\.[0-9]/) kernel = $i }
/^---- .* stdout ----$/ { test = $2; failed[test] = "" }
/^impossible on this kernel: / { if (test) failed[test] = substr($0, 28) }
/^test result: / { passed += $4; test = "" }
/^guest-done: / { done = $2 }
{ last = $0 }
END {
	for (name in failed)
		if (failed[name]) {
			impossible++
			say("impossible: " name ": " failed[name])
		} else {
			wrong++
			say("FAILED: " name)
		}
	if (!passed || last !~ /^guest-done: /)
		say("FAILED: no test passed: " last)
	else if (done != 0 && !wrong && !impossible)
		say("FAILED: the tests ended with status " done)
	say(sprintf("Linux %s: %d passed, %d failed, %d impossible", kernel, passed, wrong, impossible))
}
