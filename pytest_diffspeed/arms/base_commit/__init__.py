"""The base that this tree is compared with: another commit, another environment, or both."""
