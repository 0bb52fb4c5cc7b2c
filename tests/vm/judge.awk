# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
# What a guest's tests came to. A test that ended because its kernel cannot run
# what it counts says so, after it has looked whether that is true. Without the
# mark of the end and a test that passed, all failed.
function fail(what) {
	print series ": FAILED: " what
	failed++
}
/^kernel +(ok|no)/ { sub(/;$/, "", $3); kernel = $3 }
/^---- .* stdout ----$/ { test = $2; reason[test] = "" }
/^impossible on this kernel: / { reason[test] = substr($0, 28) }
/^FAILED: / { fail(substr($0, 9)) }
/^test result: / { passed += $4; bad += $6 }
{ last = $0 }
END {
	for (test in reason)
		if (reason[test]) {
			print series ": impossible: " test ": " reason[test]
			impossible++
		} else
			fail(test)
	if (last != "guest-done" || !passed || bad != length(reason))
		fail("it did not come to its end: " last)
	printf "%s: Linux %s: %d passed, %d failed, %d impossible\n", series, kernel, passed, failed, impossible
	exit failed > 0
}
