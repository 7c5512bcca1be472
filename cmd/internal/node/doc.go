// Package node is one running process: its configuration, and the stages that the configuration asks for, opened and wired.
//
// It promises that Load refuses an unknown key with its line, and reports all problems of a file at once; that what Open opened is
// closed again, in reverse order, when a later stage fails; and that Close returns when every goroutine that Run started has ended.
// It refuses flags and printing: commands read flags into a Config, and print what a Node returns.
//
//	n, err := node.Open(ctx, cfg, version, log)
//	err = n.Run(ctx, nil)
//	err = errors.Join(err, n.Close())
package node
