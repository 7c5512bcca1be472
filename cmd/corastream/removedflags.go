package main

import "strings"

// removedFlags are flags that an earlier version took, by command and name, and what to write in their place. A script that still has one
// ends with this advice.
var removedFlags = map[string]string{
	"replay --content":     "write --study content=NAME, or name the model cf@NAME",
	"replay --dev":         "write --study dev=SHARE",
	"replay --partitions":  "write --study partitions=N",
	"replay --rank-llm":    "write --study rank-llm=N",
	"replay --rank-rows":   "write --study rank-rows=N",
	"replay --seeds":       "write --study seeds=N",
	"replay --shards":      "write --study shards=N",
	"replay --speed":       "write --study speed=N",
	"replay --sync-events": "write --study sync-events=N",
	"replay --sync-every":  "write --study sync-every=TIME",

	"requests --candidates": "write the request as a line of JSON, and `corastream produce --topic requests FILE`",
	"requests --exclude":    "write the request as a line of JSON, and `corastream produce --topic requests FILE`",
	"requests --request-id": "write the request as a line of JSON, and `corastream produce --topic requests FILE`",

	"rollout --admin": "set http.admin_listen in the configuration (-c)",

	"gpu-check --roofline": "write gpu-check roofline",
	"gpu-check --tiny":     "write gpu-check tiny",
}

// removedFlag says what to write in place of the unknown flag that err names, or "".
func removedFlag(command string, err error) string {
	_, name, ok := strings.Cut(err.Error(), "unknown flag: ")
	if !ok {
		return ""
	}
	return removedFlags[command+" "+name]
}
