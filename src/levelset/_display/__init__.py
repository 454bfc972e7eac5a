"""What figures in matplotlib and figures on a page share: colours, places, what they compute."""
