package main

import (
	"github.com/spf13/cobra"

	"github.com/corastream/corastream"
)

func completionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "completion SHELL",
		Short: "Print a script that completes commands and flags in bash, zsh, fish or powershell",
		Long: `Load it for the running shell, or put it where the shell looks:
  bash  source <(corastream completion bash), or into /etc/bash_completion.d/corastream
  zsh   into a folder of $fpath, as _corastream
  fish  into ~/.config/fish/completions/corastream.fish`,
		Example: "  corastream completion bash", Args: cobra.ExactArgs(1), ValidArgs: []string{"bash", "zsh", "fish", "powershell"},
		RunE: func(c *cobra.Command, args []string) error {
			root, w := c.Root(), c.OutOrStdout()
			switch args[0] {
			case "bash":
				return root.GenBashCompletionV2(w, true)
			case "zsh":
				return root.GenZshCompletion(w)
			case "fish":
				return root.GenFishCompletion(w, true)
			case "powershell":
				return root.GenPowerShellCompletionWithDesc(w)
			}
			return corastream.Usagef(args[0], "choose bash, zsh, fish or powershell", "no such shell")
		},
	}
}
