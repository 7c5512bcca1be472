//go:build !gpu

package main

import "github.com/spf13/cobra"

// gpuCommands are those of bin/corastream-gpu alone.
func gpuCommands() []*cobra.Command { return nil }
